//! Writes a trace in Perfetto's protobuf format: tracks for vCPUs, devices and processes, and windows as slices.
//!
//! The tests parse the output with the definitions of Perfetto's own package.

mod intern;
mod messages;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;

use anyhow::Result;
use prost::Message;

use self::intern::{Strings, Use};
use self::messages::{Annotation, Packet, Packets, TrackDescriptor, TrackEvent};
use crate::stats::trace::{Trace, What, WindowEvent};
use crate::trace::{Line, Names, describe};

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
    strings: Strings,
}

/// A named number or text of an event.
enum Detail<'a> {
    Number(&'static str, u64),
    Address(&'static str, u64),
    Text(&'static str, Cow<'a, str>),
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
            trusted_packet_sequence_id: SEQUENCE,
            track_descriptor: Some(descriptor),
            ..Packet::default()
        })?;
        Ok(uuid)
    }

    fn event(
        &mut self,
        time: u64,
        track: Track,
        (kind, name): (i32, Option<&str>),
        details: &[Detail<'_>],
    ) -> Result<()> {
        let track_uuid = self.track(track)?;
        self.strings.begin_packet();
        let event = TrackEvent {
            category_iids: vec![self.strings.number(Use::Category, "pvio")],
            debug_annotations: details.iter().map(|detail| self.annotation(detail)).collect(),
            kind,
            name_iid: name.map(|name| self.strings.number(Use::EventName, name)),
            track_uuid,
        };
        let (interned_data, flags) = self.strings.end_packet();
        self.packet(Packet {
            timestamp: Some(time),
            trusted_packet_sequence_id: SEQUENCE,
            track_event: Some(event),
            interned_data,
            sequence_flags: Some(flags),
            track_descriptor: None,
        })
    }

    fn annotation(&mut self, detail: &Detail<'_>) -> Annotation {
        let strings = &mut self.strings;
        let mut named = |name| Annotation {
            name_iid: strings.number(Use::AnnotationName, name),
            ..Annotation::default()
        };
        match detail {
            Detail::Number(name, value) => Annotation { uint_value: Some(*value), ..named(name) },
            Detail::Address(name, value) => {
                Annotation { pointer_value: Some(*value), ..named(name) }
            }
            Detail::Text(name, text) => {
                let annotation = named(name);
                let text = strings.number(Use::AnnotationValue, text);
                Annotation { string_value_iid: Some(text), ..annotation }
            }
        }
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
    let mut writer = Writer { out, tracks: HashMap::new(), strings: Strings::default() };
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
        writer.event(last, Track::Window(name), (SLICE_END, None), &[])?;
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
            writer.event(time, Track::Window(name.clone()), (SLICE_BEGIN, Some(&name)), &[])
        }
        WindowEvent::Ended(name) => {
            open.retain(|other| *other != **name);
            writer.event(time, Track::Window(name.to_string()), (SLICE_END, None), &[])
        }
        WindowEvent::Reset => {
            writer.event(time, Track::Group("windows"), (INSTANT, Some("reset")), &[])
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
    let details = details(line);
    let vcpu = match line.vcpu {
        None => Track::Group("requests"),
        Some(_) if names.mixes_vcpus() => Track::Group("vCPUs"),
        Some(vcpu) => Track::Vcpu(vcpu),
    };
    let device = port.map(|port| {
        Track::Device(names.port(port).map_or_else(|| port.to_string(), str::to_owned))
    });
    let process = line.process.map(|process| Track::Process(process.to_string()));
    writer.event(time, vcpu, (INSTANT, Some(&name)), &details)?;
    // The other tracks omit the call chain, because it is long.
    let value = &details[..details.len().min(1)];
    for track in [device, process].into_iter().flatten() {
        writer.event(time, track, (INSTANT, Some(&name)), value)?;
    }
    Ok(())
}

fn details<'a>(line: &'a Line<'_>) -> Vec<Detail<'a>> {
    let mut all = Vec::new();
    if let Some(access) = line.access {
        all.extend(access.value.map(|value| Detail::Number("value", value.into())));
        all.extend(access.size.bytes().map(|size| Detail::Number("size", size.into())));
    }
    all.extend(line.by.map(|by| Detail::Text("by", by.into())));
    all.extend(line.pc.map(|pc| Detail::Address("pc", pc)));
    all.extend(line.symbol.map(|symbol| Detail::Text("symbol", symbol.into())));
    if !line.stack.is_empty() {
        let callers: Vec<_> = line.stack.iter().map(|caller| caller.name()).collect();
        all.push(Detail::Text("callers", callers.join(" < ").into()));
    }
    all
}
