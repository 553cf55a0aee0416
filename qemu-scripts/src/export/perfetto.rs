//! Writes a trace in Perfetto's protobuf format: tracks for vCPUs, devices and processes, and windows as slices.
//!
//! The messages are a subset of `protos/perfetto/trace/*.proto`, whose field numbers are stable. The tests parse the output
//! with the definitions of Perfetto's own package.

use std::collections::HashMap;
use std::io::Write;

use anyhow::Result;
use prost::Message;

use crate::stats::trace::{Trace, What, WindowEvent};
use crate::trace::{Line, Names, describe};

/// `TracePacket`.
#[derive(Clone, PartialEq, Message)]
struct Packet {
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    #[prost(uint32, tag = "10")]
    trusted_packet_sequence_id: u32,
    #[prost(message, optional, tag = "11")]
    track_event: Option<TrackEvent>,
    #[prost(message, optional, tag = "60")]
    track_descriptor: Option<TrackDescriptor>,
}

/// `Trace`, with one packet. Protobuf messages can be concatenated.
#[derive(Clone, PartialEq, Message)]
struct Packets {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<Packet>,
}

/// `TrackDescriptor`.
#[derive(Clone, PartialEq, Message)]
struct TrackDescriptor {
    #[prost(uint64, tag = "1")]
    uuid: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint64, optional, tag = "5")]
    parent_uuid: Option<u64>,
}

/// `TrackEvent`.
#[derive(Clone, PartialEq, Message)]
struct TrackEvent {
    #[prost(message, repeated, tag = "4")]
    debug_annotations: Vec<Annotation>,
    /// 1 begins a slice, 2 ends it, 3 is an instant.
    #[prost(int32, tag = "9")]
    kind: i32,
    #[prost(uint64, tag = "11")]
    track_uuid: u64,
    #[prost(string, repeated, tag = "22")]
    categories: Vec<String>,
    #[prost(string, optional, tag = "23")]
    name: Option<String>,
}

/// `DebugAnnotation`.
#[derive(Clone, PartialEq, Message)]
struct Annotation {
    #[prost(uint64, optional, tag = "3")]
    uint_value: Option<u64>,
    #[prost(string, optional, tag = "6")]
    string_value: Option<String>,
    #[prost(uint64, optional, tag = "7")]
    pointer_value: Option<u64>,
    #[prost(string, tag = "10")]
    name: String,
}

const SLICE_BEGIN: i32 = 1;
const SLICE_END: i32 = 2;
const INSTANT: i32 = 3;

/// The packet sequence id, which Perfetto requires. One writer writes all packets.
const SEQUENCE: u32 = 1;

/// The subject of a track.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Track {
    /// The parent of tracks of one kind.
    Group(&'static str),
    Vcpu(u32),
    Device(String),
    Process(String),
    Window(String),
}

impl Track {
    fn name(&self) -> String {
        match self {
            Track::Group(name) => (*name).to_owned(),
            Track::Vcpu(vcpu) => format!("vCPU {vcpu}"),
            Track::Device(name) | Track::Process(name) | Track::Window(name) => name.clone(),
        }
    }

    fn parent(&self) -> Option<Track> {
        Some(Track::Group(match self {
            Track::Group(_) => return None,
            Track::Vcpu(_) => "vCPUs",
            Track::Device(_) => "devices",
            Track::Process(_) => "processes",
            Track::Window(_) => "windows",
        }))
    }
}

/// Writes packets, and describes each track before its first event.
struct Writer<'a, W: Write> {
    out: &'a mut W,
    tracks: HashMap<Track, u64>,
}

impl<W: Write> Writer<'_, W> {
    fn packet(&mut self, packet: Packet) -> Result<()> {
        let packets = Packets { packet: vec![packet] };
        self.out.write_all(&packets.encode_to_vec())?;
        Ok(())
    }

    fn track(&mut self, track: Track) -> Result<u64> {
        if let Some(&uuid) = self.tracks.get(&track) {
            return Ok(uuid);
        }
        let parent_uuid = track.parent().map(|parent| self.track(parent)).transpose()?;
        // Perfetto reserves 0.
        let uuid = self.tracks.len() as u64 + 1;
        let descriptor = TrackDescriptor { uuid, name: track.name(), parent_uuid };
        self.tracks.insert(track, uuid);
        self.packet(Packet {
            timestamp: None,
            trusted_packet_sequence_id: SEQUENCE,
            track_event: None,
            track_descriptor: Some(descriptor),
        })?;
        Ok(uuid)
    }

    fn event(
        &mut self,
        time: u64,
        track: Track,
        (kind, name): (i32, Option<String>),
        debug_annotations: Vec<Annotation>,
    ) -> Result<()> {
        let track_uuid = self.track(track)?;
        let categories = vec!["pvio".to_owned()];
        let event = TrackEvent { debug_annotations, kind, track_uuid, categories, name };
        self.packet(Packet {
            timestamp: Some(time),
            trusted_packet_sequence_id: SEQUENCE,
            track_event: Some(event),
            track_descriptor: None,
        })
    }
}

/// Writes a trace. Times are the guest's, or the host's if the guest's are not known.
///
/// # Errors
///
/// Fails if the output cannot be written.
pub fn write(trace: &mut Trace, out: &mut impl Write) -> Result<()> {
    let (head, end) = (trace.head().clone(), trace.end().cloned());
    let names = Names::new(&head, end.as_ref());
    let mut writer = Writer { out, tracks: HashMap::new() };
    let mut open: Vec<String> = Vec::new();
    let mut last = 0;
    let mut result = Ok(());
    trace.read(|event, vcpu, definitions| {
        let time = event.guest.unwrap_or(event.host);
        last = last.max(time);
        result = match &event.what {
            What::Window(window, _) => put_window(&mut writer, window, time, &mut open),
            _ => {
                let line = describe(event, vcpu, definitions, &names);
                put(&mut writer, &line, time, &names)
            }
        };
        result.is_ok()
    });
    result?;
    // A window that was open at the end ends there.
    for name in open {
        writer.event(last, Track::Window(name), (SLICE_END, None), Vec::new())?;
    }
    Ok(())
}

fn put_window<W: Write>(
    writer: &mut Writer<'_, W>,
    window: &WindowEvent,
    time: u64,
    open: &mut Vec<String>,
) -> Result<()> {
    match window {
        WindowEvent::Began(name) => {
            let name = name.to_string();
            open.push(name.clone());
            writer.event(time, Track::Window(name.clone()), (SLICE_BEGIN, Some(name)), Vec::new())
        }
        WindowEvent::Ended(name) => {
            open.retain(|other| *other != **name);
            writer.event(time, Track::Window(name.to_string()), (SLICE_END, None), Vec::new())
        }
        WindowEvent::Reset => {
            let event = (INSTANT, Some("reset".to_owned()));
            writer.event(time, Track::Group("windows"), event, Vec::new())
        }
    }
}

/// Adds an event to the tracks of its vCPU, its device and its process.
fn put<W: Write>(
    writer: &mut Writer<'_, W>,
    line: &Line<'_>,
    time: u64,
    names: &Names<'_>,
) -> Result<()> {
    let port = line.access.and_then(|access| access.port);
    let name = match (port, &line.text) {
        (Some(port), _) => format!("{} {port}", line.event),
        (None, Some(text)) => format!("{} {text}", line.event),
        (None, None) => line.event.to_owned(),
    };
    let annotations = annotations(line);
    let vcpu = match line.vcpu {
        None => Track::Group("requests"),
        Some(_) if names.mixes_vcpus() => Track::Group("vCPUs"),
        Some(vcpu) => Track::Vcpu(vcpu),
    };
    let device = port.map(|port| {
        Track::Device(names.port(port).map_or_else(|| port.to_string(), str::to_owned))
    });
    let process = line.process.map(|process| Track::Process(process.to_string()));
    // The other tracks omit the call chain, because it is long.
    let value = annotations.first().cloned().into_iter().collect::<Vec<_>>();
    writer.event(time, vcpu, (INSTANT, Some(name.clone())), annotations)?;
    for track in [device, process].into_iter().flatten() {
        writer.event(time, track, (INSTANT, Some(name.clone())), value.clone())?;
    }
    Ok(())
}

fn annotations(line: &Line<'_>) -> Vec<Annotation> {
    let empty = |name: &str| Annotation { name: name.to_owned(), ..Annotation::default() };
    let number = |name: &str, value: u64| Annotation { uint_value: Some(value), ..empty(name) };
    let text = |name: &str, value: &str| Annotation {
        string_value: Some(value.to_owned()),
        ..empty(name)
    };
    let mut all = Vec::new();
    if let Some(access) = line.access {
        all.extend(access.value.map(|value| number("value", value.into())));
        all.extend(access.size.bytes().map(|size| number("size", size.into())));
    }
    all.extend(line.by.map(|by| text("by", by)));
    all.extend(line.pc.map(|pc| Annotation { pointer_value: Some(pc), ..empty("pc") }));
    all.extend(line.symbol.map(|symbol| text("symbol", symbol)));
    if !line.stack.is_empty() {
        let callers: Vec<_> = line.stack.iter().map(|caller| caller.name()).collect();
        all.push(text("callers", &callers.join(" < ")));
    }
    all
}
