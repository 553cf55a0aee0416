//! The cost of recording a trace, for accesses of a bare guest and for a boot of Linux, and of reading one.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use pvio_x86::{Mode, Port, PortForm};

use super::Row;
use super::linux::booted;
use super::port_cost::{self, Timed};
use crate::machine::Machine;
use crate::measure::{in_turn, median};
use crate::paths;
use crate::progress::Progress;
use crate::stats::QemuRow;
use crate::stats::trace::{
    CallSiteDefinition, ChunkHeader, ChunkKind, Code, Define, Encoder, End, Head, InsnEvent,
    ProcessDefinition, SiteDefinition, StackDefinition, Stage, StreamEnd, Trace, What, chunk,
    statistics,
};

/// Number of events in the trace that is read.
const EVENTS: u64 = 10_000_000;

/// Size of its chunks, in bytes.
const CHUNK: usize = 64 * 1024;

/// Upper limit of the time from one access of a bare guest to the next, and of what the trace adds, in nanoseconds.
const ACCESS_NS: f64 = 60.0;

/// Upper limit of the time that reading takes, in seconds.
const READING_S: f64 = 5.0;

/// Measures the rows, from `count` pairs of runs.
///
/// # Errors
///
/// Fails if a guest fails, or if a trace cannot be read.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("trace");
    let option = format!("trace={}", path.display());
    let progress = Progress::new();
    let (mut between, mut per_cycle) = (Vec::new(), Vec::new());
    let ports = in_turn(
        count,
        [
            &mut || {
                let run = port_cost::run(qemu, Some(&[&option]))?;
                let times = times(&path)?;
                between.push((times.between, ACCESS_NS));
                per_cycle.push(times.first_loop / run.least(Timed::OutQemu));
                Ok(run)
            },
            &mut || port_cost::run(qemu, Some(&[])),
        ],
        |pair| progress.set(&format!("accesses, traced or not: pair {} of {count}", pair + 1)),
    )?;
    let boot = paths::linux_arguments(&[])?;
    let boots = |option: Option<&str>| {
        let options: Vec<&str> = ["summary=off"].into_iter().chain(option).collect();
        booted(Machine::new(qemu).args(&boot).plugin(&options).run()?)
    };
    let boots = in_turn(count, [&mut || boots(Some(&option)), &mut || boots(None)], |pair| {
        progress.set(&format!("Linux boots, traced or not: pair {} of {count}", pair + 1))
    })?;
    write_synthetic(&path)?;
    let mut read = Vec::new();
    for number in 1..=count {
        progress.set(&format!("reading ten million events: run {number} of {count}"));
        let began = Instant::now();
        let (snapshot, _) = statistics(&mut Trace::open(&path)?);
        anyhow::ensure!(snapshot.vcpus[0].accesses == EVENTS, "not all events were read");
        read.push((began.elapsed().as_secs_f64(), READING_S));
    }
    drop(progress);
    let of_port = |what, timed: Timed| {
        let pairs = ports.iter().map(|[with, without]| (with.least(timed), without.least(timed)));
        Row::of(what, "counted only", "cycles", &pairs.collect::<Vec<_>>())
    };
    let added = |what, timed: Timed| {
        let added = ports.iter().zip(&per_cycle).map(|([with, without], per_cycle)| {
            ((with.least(timed) - without.least(timed)) * per_cycle, ACCESS_NS)
        });
        Row::of(what, "60 ns", "ns", &added.collect::<Vec<_>>()).target(1.0)
    };
    let of_boot = |unit, time: fn(&crate::machine::Ended) -> f64| {
        let pairs = boots.iter().map(|[with, without]| (time(with), time(without)));
        Row::of("Linux boot, traced", "counted only", unit, &pairs.collect::<Vec<_>>())
    };
    Ok(vec![
        added("what a trace adds to an out", Timed::OutQemu),
        added("what a trace adds to an in", Timed::InQemu),
        Row::of("from one traced access to the next", "60 ns", "ns", &between).target(1.0),
        of_port("out on QEMU's latch, traced", Timed::OutQemu),
        of_port("in on QEMU's latch, traced", Timed::InQemu),
        of_boot("s", |ended| ended.wall.as_secs_f64()).target(1.05),
        of_boot("s of CPU", |ended| ended.cpu.as_secs_f64()),
        Row::of("statistics of 10 million traced accesses", "5 s", "s", &read).target(1.0),
    ])
}

/// The times of a run of the guest that times `in` and `out`, in nanoseconds.
struct Times {
    /// The median time between successive accesses of one loop.
    between: f64,
    /// The time of an access in the fastest run of the guest's first loop.
    first_loop: f64,
}

/// Reads the times of a trace.
fn times(path: &Path) -> Result<Times> {
    // The accesses of one loop have the same port and instruction: its first time, its last, and its accesses.
    let mut loops: Vec<(u64, u64, f64)> = Vec::new();
    let mut last = None;
    let mut between = Vec::new();
    Trace::open(path)?.read(|event, _, _| {
        if let What::Insn(InsnEvent { port, code, .. }) = event.what {
            let at = Some((port, code));
            match loops.last_mut().filter(|_| last == at) {
                Some((_, time, accesses)) => {
                    between.push((event.host - *time) as f64);
                    *time = event.host;
                    *accesses += 1.0;
                }
                None => loops.push((event.host, event.host, 0.0)),
            }
            last = at;
        }
        true
    });
    anyhow::ensure!(!between.is_empty(), "the trace has no accesses");
    let first = loops.chunks_exact(port_cost::LOOPS).map(|round| round[0]);
    let first = first.map(|(begin, end, accesses)| (end - begin) as f64 / accesses);
    Ok(Times { between: median(between), first_loop: first.fold(f64::INFINITY, f64::min) })
}

/// Number of sites in the trace that is read: about that of a Linux boot.
const SITES: u32 = 400;

struct Synthetic;

impl Define for Synthetic {
    fn site(&self, site: u32) -> SiteDefinition {
        SiteDefinition {
            pc: 0xffff_ffff_8100_0000 + u64::from(site) * 64,
            mode: Some(Mode::Bits64),
            form: PortForm::OutDxAl.into(),
            boot: 0,
            privilege: None,
            bytes: vec![0xee],
            place: None,
        }
    }

    fn call_site(&self, _: u32) -> CallSiteDefinition {
        unreachable!("no event is a hypercall's")
    }

    fn stack(&self, _: u32) -> StackDefinition {
        StackDefinition { frames: Vec::new(), end: None }
    }

    fn process(&self, _: u32) -> ProcessDefinition {
        unreachable!("no event has a process")
    }
}

/// Writes a trace of one vCPU.
fn write_synthetic(path: &Path) -> Result<()> {
    let file = std::fs::File::create(path).with_context(|| format!("{}", path.display()))?;
    let mut file = BufWriter::new(file);
    let head = Head {
        pvio: env!("CARGO_PKG_VERSION").into(),
        qemu: QemuRow { version: None, plugin_api: 7, target: "x86_64".to_owned() },
        began: 0,
        reports_exceptions: true,
        reads_memory: true,
        callers: false,
        processes: false,
        filter: String::new(),
        irqs: false,
        devices: Vec::new(),
    };
    file.write_all(&head.to_chunk())?;
    let mut encoder = Encoder::new();
    let mut chunks = 0;
    for number in 0..EVENTS {
        // Sites repeat, as loops do; each has a few ports.
        let site = (number / 50 % u64::from(SITES)) as u32;
        let event = InsnEvent {
            stage: Stage::Executed,
            code: Code::Site(site),
            form: PortForm::OutDxAl.into(),
            port: Some(Port((site * 8 + (number / 10 % 3) as u32) as u16)),
            value: Some((number % 251) as u32),
            stack: None,
            process: None,
        };
        encoder.insn(number * 300, &event, &Synthetic);
        if encoder.len() >= CHUNK || number + 1 == EVENTS {
            let (contents, events, start) = encoder.take();
            let kind = ChunkKind::Events;
            let header = ChunkHeader { kind, stream: 0, vcpu: 0, sequence: chunks, events, start };
            file.write_all(&chunk(&header, &contents))?;
            chunks += 1;
        }
    }
    let streams = vec![StreamEnd { stream: 0, chunks }];
    let end = End { ended: "shutdown".into(), vcpus: vec![0], streams, ..End::default() };
    file.write_all(&end.to_chunk())?;
    Ok(file.flush()?)
}
