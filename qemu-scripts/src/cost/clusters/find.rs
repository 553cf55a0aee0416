//! Finds the clusters of a trace.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use pvio_x86::{InsnForm, Port};

use super::open::{Access, At, Ended, RawPoint, Vcpu};
use super::{Clusters, Kind, Place, Point, Shape, ShapeCounts, SiteKey};
use crate::stats::trace::{Code, Definitions, Event, InsnEvent, Stage, Trace, What};

/// The number of shapes that are kept. Clusters of more shapes are counted only.
const MAX_SHAPES: usize = 65_536;

type RawShape = (Kind, Vec<RawPoint>);

/// Adds the clusters of a trace. Problems of the trace are those that its statistics report.
///
/// An access that QEMU reports as made or faulted is not part of a cluster.
///
/// # Errors
///
/// The file is not a trace, or its head is incomplete.
pub fn add_trace(clusters: &mut Clusters, path: &Path) -> Result<()> {
    let mut trace = Trace::open(path)?;
    let names = Names::new(&trace);
    let mut finder = Finder::default();
    let rule = clusters.rule;
    let definitions = trace.read(|event, (stream, _), definitions| {
        let vcpu = finder.vcpus.entry(stream).or_default();
        let ended = match &event.what {
            What::Irq { .. } => Ended::default(),
            What::Insn(insn) => match access(event, insn, stream, definitions, &names) {
                Some(access) => {
                    finder.found.accesses += 1;
                    vcpu.access(access, rule)
                }
                None => vcpu.interrupt(),
            },
            _ => vcpu.interrupt(),
        };
        finder.found.end(ended);
        true
    });
    for vcpu in finder.vcpus.values_mut() {
        finder.found.end(vcpu.interrupt());
    }
    finder.found.add_to(clusters, &definitions, &names);
    Ok(())
}

/// Returns the access of an event; `None` if it is none by `in` or `out`.
fn access(
    event: &Event,
    insn: &InsnEvent,
    stream: u32,
    definitions: &Definitions,
    names: &Names,
) -> Option<Access> {
    if !matches!(insn.stage, Stage::Executed | Stage::ResumedAndExecuted) || insn.form.is_string() {
        return None;
    }
    let (at, pc) = match insn.code {
        Code::Site(site) => (At::Site(site), definitions.site(site)?.pc),
        Code::Dropped(pc) => (At::Address(pc), pc),
    };
    let point = RawPoint { at, form: insn.form.index() as u8, port: insn.port? };
    let caller = insn.stack.and_then(|stack| names.caller(stream, stack, definitions));
    let process = insn.process.map(|process| process.number);
    Some(Access { point, pc, caller, process, time: event.host, value: insn.value })
}

#[derive(Default)]
struct Finder {
    vcpus: HashMap<u32, Vcpu>,
    found: Found,
}

#[derive(Default)]
struct Found {
    shapes: HashMap<RawShape, ShapeCounts>,
    loops: HashMap<RawPoint, HashMap<u64, u64>>,
    accesses: u64,
    singles: u64,
    dropped: u64,
}

impl Found {
    fn end(&mut self, ended: Ended) {
        if let Some((point, accesses)) = ended.run {
            *self.loops.entry(point).or_default().entry(accesses).or_default() += 1;
        }
        let Some(cluster) = ended.cluster else { return };
        let all: u64 = cluster.counts.iter().sum();
        let shape = (cluster.kind, cluster.points);
        if all == 1 {
            self.singles += 1;
        } else if self.shapes.len() >= MAX_SHAPES && !self.shapes.contains_key(&shape) {
            self.dropped += all;
        } else {
            add(self.shapes.entry(shape).or_default(), 1, &cluster.counts);
        }
    }

    fn add_to(self, clusters: &mut Clusters, definitions: &Definitions, names: &Names) {
        clusters.accesses += self.accesses;
        clusters.singles += self.singles;
        clusters.dropped += self.dropped;
        for ((kind, points), counts) in self.shapes {
            let points = points.into_iter().map(|point| names.point(point, definitions)).collect();
            let known = clusters.shapes.entry(Shape { kind, points }).or_default();
            add(known, counts.times, &counts.accesses);
        }
        for (point, lengths) in self.loops {
            let known = clusters.loops.entry(names.point(point, definitions)).or_default();
            for (length, times) in lengths {
                *known.entry(length).or_default() += times;
            }
        }
    }
}

fn add(counts: &mut ShapeCounts, times: u64, accesses: &[u64]) {
    counts.times += times;
    counts.accesses.resize(accesses.len(), 0);
    counts.accesses.iter_mut().zip(accesses).for_each(|(sum, more)| *sum += more);
}

/// What the end of a trace says about numbers.
struct Names {
    symbols: HashMap<u32, String>,
    /// The innermost return address of each stack.
    callers: HashMap<(u32, u32), u64>,
}

impl Names {
    fn new(trace: &Trace) -> Names {
        let Some(end) = trace.end() else {
            return Names { symbols: HashMap::new(), callers: HashMap::new() };
        };
        let symbols = end.sites.iter().map(|names| (names.site, names.symbol.clone())).collect();
        let callers = end.stacks.iter().filter_map(|stack| {
            let frame = end.frames.get(*stack.frames.first()?)?;
            Some(((stack.stream, stack.stack), frame.pc)).filter(|_| !frame.interrupted)
        });
        Names { symbols, callers: callers.collect() }
    }

    fn caller(&self, stream: u32, stack: u32, definitions: &Definitions) -> Option<u64> {
        let known = self.callers.get(&(stream, stack)).copied();
        known.or_else(|| {
            let frames = &definitions.stack(stream, stack)?.frames;
            frames.first().filter(|(_, interrupted)| !interrupted).map(|&(pc, _)| pc)
        })
    }

    fn point(&self, point: RawPoint, definitions: &Definitions) -> Point {
        let form = InsnForm::from_index(point.form.into());
        let port: Port = point.port;
        let site = match point.at {
            At::Address(pc) => return Point { site: None, pc, symbol: None, form, port },
            At::Site(site) => site,
        };
        let symbol = self.symbols.get(&site).cloned();
        let Some(definition) = definitions.site(site) else {
            return Point { site: None, pc: 0, symbol, form, port };
        };
        let place = match &definition.place {
            Some(place) => Place::File(place.path.clone(), Some(place.offset)),
            None => Place::Address(definition.pc),
        };
        let bytes = definition.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = SiteKey { place, mode: definition.mode, bytes };
        Point { site: Some(key), pc: definition.pc, symbol, form, port }
    }
}
