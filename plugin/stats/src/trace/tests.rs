//! Events survive the way into a file and back; a damaged file is read up to the damage.

use std::collections::BTreeSet;
use std::path::Path;

use pvio_x86::{InsnForm, Mode, Port};

use super::decode::Decoder;
use super::*;
use crate::{Call, CallAt, ChainEnd, Privilege, QemuRow};

struct Numbers;

impl Define for Numbers {
    fn site(&self, site: u32) -> SiteDefinition {
        let place = FileOffset { path: format!("/bin/{site}"), offset: site.into() };
        SiteDefinition {
            pc: u64::MAX - u64::from(site),
            mode: [None, Some(Mode::Bits16), Some(Mode::Bits64)][site as usize % 3],
            form: InsnForm::from_index(site as usize % InsnForm::COUNT),
            boot: site / 3,
            privilege: [
                None,
                Some(Privilege::Supervisor),
                Some(Privilege::User),
                Some(Privilege::Both),
            ][site as usize % 4],
            bytes: vec![0xee; site as usize % 15],
            place: site.is_multiple_of(2).then_some(place),
        }
    }

    fn call_site(&self, site: u32) -> CallSiteDefinition {
        CallSiteDefinition {
            pc: u64::MAX / 3 - u64::from(site),
            at: [CallAt::Instruction, CallAt::Return][site as usize % 2],
            mode: Mode::ALL[site as usize % 3],
            boot: site / 7,
        }
    }

    fn stack(&self, stack: u32) -> StackDefinition {
        let frames = (0..stack % 70).map(|n| (u64::from(n) << 40 | u64::from(stack), n % 3 == 0));
        let end = [None, Some(ChainEnd::User), Some(ChainEnd::Depth)][stack as usize % 3];
        StackDefinition { frames: frames.collect(), end }
    }

    fn process(&self, process: u32) -> ProcessDefinition {
        let owner = match process % 3 {
            0 => Owner::Unpaged,
            1 => Owner::AddressSpace(u64::from(process) << 12),
            _ => Owner::Process { pid: process, comm: format!("comm {process}") },
        };
        ProcessDefinition { boot: process / 5, owner }
    }
}

const STAGES: [Stage; 21] = [
    Stage::Started,
    Stage::Executed,
    Stage::Unverified,
    Stage::Faulted,
    Stage::Exited,
    Stage::ResumedAndExecuted,
    Stage::ResumedAndFaulted,
    Stage::ResumedAndExited,
    Stage::ResumedAndUnverified,
    Stage::Resumed,
    Stage::Element { starts: false, ends: false },
    Stage::Element { starts: true, ends: false },
    Stage::Element { starts: false, ends: true },
    Stage::Element { starts: true, ends: true },
    Stage::StringFaulted,
    Stage::StringExited,
    Stage::ExecutedBecomesUnverified,
    Stage::UnverifiedBecomesExecuted,
    Stage::UnverifiedBecomesFault,
    Stage::ExecutedBecomesExit,
    Stage::UnverifiedBecomesExit,
];

fn random_process(rng: &mut fastrand::Rng) -> Option<Process> {
    let number = rng.bool().then(|| rng.u32(0..9));
    rng.bool().then(|| Process { number, is_user: rng.bool() })
}

fn random_call_code(rng: &mut fastrand::Rng) -> CallCode {
    match rng.u8(0..4) {
        0 => CallCode::Dropped(rng.u64(..) >> rng.u32(0..64)),
        _ => CallCode::Site(rng.u32(0..20)),
    }
}

fn random_what(rng: &mut fastrand::Rng) -> What {
    match rng.u8(0..12) {
        0 => {
            let calls = Call::ALL.into_iter().filter_map(|call| Some((call, call.port_io()?.1)));
            let (call, width) = rng.choice(calls.collect::<Vec<_>>()).unwrap();
            What::Call(CallEvent::Access {
                call,
                port: Port(rng.u16(0..4)),
                value: width.low_bytes(rng.u32(..)),
                code: random_call_code(rng),
                stack: rng.bool().then(|| rng.u32(0..80)),
                process: random_process(rng),
                completes: rng.bool(),
            })
        }
        1 => What::Call(CallEvent::Ended {
            call: Call::ALL[rng.usize(0..Call::ALL.len())],
            outcome: CallOutcome::ALL[rng.usize(0..4)],
            count: rng.u64(..),
            bytes: rng.u64(..),
            code: random_call_code(rng),
        }),
        2 => {
            let window = match rng.u8(0..3) {
                0 => WindowEvent::Began("grüße".into()),
                1 => WindowEvent::Ended("".into()),
                _ => WindowEvent::Reset,
            };
            What::Window(window, rng.bool().then(|| random_call_code(rng)))
        }
        3 => match rng.u8(0..3) {
            0 => What::Filter("0x60:in".into()),
            1 => What::Irq { line: rng.u8(0..16), level: rng.bool() },
            _ => What::Off,
        },
        _ => {
            let stage = STAGES[rng.usize(0..STAGES.len())];
            let site = rng.u32(0..30);
            let (code, form) = match rng.u8(0..4) {
                0 => (
                    Code::Dropped(rng.u64(..)),
                    InsnForm::from_index(rng.usize(0..InsnForm::COUNT)),
                ),
                _ => (Code::Site(site), Numbers.site(site).form),
            };
            let is_bare = stage.is_bare();
            let with = |rng: &mut fastrand::Rng| !is_bare && rng.u8(0..4) > 0;
            What::Insn(InsnEvent {
                stage,
                code,
                form,
                port: with(rng).then(|| Port(rng.u16(0..3) * 0x1000)),
                value: with(rng)
                    .then(|| rng.u32(..) >> rng.u32(0..32))
                    .and_then(|value| form.size().low_bytes(value)),
                stack: with(rng).then(|| rng.u32(0..80)),
                process: if is_bare { None } else { random_process(rng) },
            })
        }
    }
}

fn random_events(rng: &mut fastrand::Rng, count: usize) -> Vec<Event> {
    let (mut host, mut ahead) = (rng.u64(0..1 << 40), None);
    (0..count)
        .map(|_| {
            host += rng.u64(..) >> rng.u32(20..64);
            if rng.u8(0..9) == 0 {
                ahead = Some(rng.i64(-1_000_000..1_000_000));
            }
            let guest = ahead.map(|ahead| host.saturating_add_signed(ahead));
            Event { host, guest, what: random_what(rng) }
        })
        .collect()
}

fn encoded(encoder: &mut Encoder, events: &[Event]) -> (Vec<u8>, u64) {
    for event in events {
        if let Some(guest) = event.guest {
            encoder.set_clock(guest.wrapping_sub(event.host) as i64);
        }
        encoder.event(event, &Numbers);
    }
    let (bytes, count, start) = encoder.take();
    assert_eq!(count as usize, events.len());
    (bytes, start)
}

#[test]
fn events_are_decoded_as_they_were_in_each_chunk_by_itself() {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut encoder = Encoder::new();
    let mut stages = BTreeSet::new();
    for _ in 0..300 {
        // A negative distance of the clocks could leave the guest's time below 0.
        let events = random_events(&mut rng, 40);
        let (bytes, start) = encoded(&mut encoder, &events);
        let mut definitions = Definitions::default();
        let mut decoder = Decoder::new(7, start, bytes);
        for event in &events {
            let read = decoder.next(&mut definitions).unwrap().unwrap();
            // The clock of a chunk before may be known already.
            assert_eq!((read.host, &read.what), (event.host, &event.what));
            assert!(event.guest.is_none() || read.guest == event.guest);
            if let What::Insn(insn) = &read.what {
                stages.insert(format!("{:?}", insn.stage));
                if let Code::Site(site) = insn.code {
                    assert_eq!(definitions.site(site), Some(&Numbers.site(site)));
                }
                if let Some(stack) = insn.stack {
                    assert_eq!(definitions.stack(7, stack), Some(&Numbers.stack(stack)));
                }
                if let Some(number) = insn.process.and_then(|process| process.number) {
                    assert_eq!(definitions.process(number), Some(&Numbers.process(number)));
                }
            }
        }
        assert_eq!(decoder.next(&mut definitions), Ok(None));
    }
    assert_eq!(stages.len(), STAGES.len());
}

#[test]
fn wrong_bytes_are_damage_and_never_a_panic() {
    let mut rng = fastrand::Rng::with_seed(4);
    let mut damaged = 0;
    for _ in 0..2000 {
        let events = random_events(&mut rng, 20);
        let (mut bytes, start) = encoded(&mut Encoder::new(), &events);
        for _ in 0..rng.u8(1..4) {
            let at = rng.usize(0..bytes.len());
            bytes[at] = rng.u8(..);
        }
        bytes.truncate(rng.usize(1..=bytes.len()));
        let mut decoder = Decoder::new(0, start, bytes);
        let mut definitions = Definitions::default();
        damaged += loop {
            match decoder.next(&mut definitions) {
                Ok(Some(_)) => {}
                Ok(None) => break 0,
                Err(_) => break 1,
            }
        };
    }
    assert!(damaged > 1000, "{damaged}");
}

#[test]
fn typical_access_takes_few_bytes() {
    let mut encoder = Encoder::new();
    for number in 0..1000 {
        let insn = InsnEvent {
            stage: Stage::Executed,
            code: Code::Site(number % 9),
            form: Numbers.site(number % 9).form,
            port: Some(Port(0x3f8 + number as u16 % 9)),
            value: Some(number % 256),
            stack: Some(number % 9),
            process: Some(Process { number: Some(2), is_user: false }),
        };
        encoder.insn(u64::from(number) * 1500, &insn, &Numbers);
    }
    let (bytes, ..) = encoder.take();
    assert!(bytes.len() < 8 * 1000, "{}", bytes.len());
}

fn head() -> Head {
    Head {
        pvio: "0".into(),
        qemu: QemuRow { version: None, plugin_api: 7, target: "x86_64".to_owned() },
        began: 0,
        reports_exceptions: true,
        reads_memory: true,
        callers: true,
        processes: true,
        filter: String::new(),
        irqs: true,
        devices: Vec::new(),
    }
}

/// A trace of several vCPUs, its events in the order of time, and where its chunks begin.
fn file(directory: &Path, rng: &mut fastrand::Rng) -> (std::path::PathBuf, Vec<Event>, Vec<usize>) {
    let mut bytes = head().to_chunk();
    let mut starts = vec![0];
    let mut all = Vec::new();
    let mut encoders = [Encoder::new(), Encoder::new(), Encoder::new()];
    let mut sequences = [0; 3];
    let mut time = 0;
    for _ in 0..12 {
        let stream = rng.usize(0..3);
        let events: Vec<Event> = random_events(rng, 15)
            .into_iter()
            .map(|event| {
                time += rng.u64(1..1000);
                Event { host: time, guest: None, ..event }
            })
            .collect();
        let (contents, start) = encoded(&mut encoders[stream], &events);
        all.extend(events);
        let header = ChunkHeader {
            kind: ChunkKind::Events,
            stream: stream as u32,
            vcpu: stream as u32 + 10,
            sequence: sequences[stream],
            events: 15,
            start,
        };
        sequences[stream] += 1;
        starts.push(bytes.len());
        bytes.extend(chunk(&header, &contents));
    }
    let streams = (0..).zip(sequences).filter(|&(_, chunks)| chunks > 0);
    let streams = streams.map(|(stream, chunks)| StreamEnd { stream, chunks }).collect();
    starts.push(bytes.len());
    bytes.extend(End { streams, ended: "shutdown".into(), ..End::default() }.to_chunk());
    let path = directory.join("trace");
    std::fs::write(&path, bytes).unwrap();
    (path, all, starts)
}

fn read(trace: &mut Trace) -> Vec<Event> {
    let mut events = Vec::new();
    trace.read(|event, (stream, vcpu), _| {
        assert_eq!(stream + 10, vcpu);
        events.push(event.clone());
        true
    });
    events
}

#[test]
fn events_of_several_vcpus_come_in_the_order_of_time() {
    let directory = tempfile::tempdir().unwrap();
    let (path, all, _) = file(directory.path(), &mut fastrand::Rng::with_seed(5));
    let mut trace = Trace::open(&path).unwrap();
    assert_eq!(trace.problems(), [""; 0]);
    assert_eq!(trace.events(), all.len() as u64);
    assert_eq!(read(&mut trace), all);
    assert_eq!(trace.problems(), [""; 0]);
}

#[test]
fn file_that_is_cut_anywhere_is_read_up_to_the_last_whole_chunk() {
    let directory = tempfile::tempdir().unwrap();
    let (path, all, starts) = file(directory.path(), &mut fastrand::Rng::with_seed(6));
    let whole = std::fs::read(&path).unwrap();
    let is_near = |len: usize| starts.iter().any(|start| start.abs_diff(len) < 50);
    for len in (0..whole.len()).filter(|&len| len.is_multiple_of(211) || is_near(len)) {
        std::fs::write(&path, &whole[..len]).unwrap();
        let chunks = starts.iter().filter(|&&start| start <= len && start > 0).count();
        match Trace::open(&path) {
            Err(error) => assert!(chunks == 0, "{len}: {error}"),
            Ok(mut trace) => {
                assert!(!trace.problems().is_empty(), "{len}");
                assert_eq!(read(&mut trace), all[..15 * (chunks - 1)], "{len}");
            }
        }
    }
}

#[test]
fn changed_byte_is_found_by_the_checksum() {
    let directory = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    let (path, all, _) = file(directory.path(), &mut rng);
    let whole = std::fs::read(&path).unwrap();
    for _ in 0..500 {
        let mut bytes = whole.clone();
        bytes[rng.usize(0..whole.len())] ^= 1 << rng.u8(0..8);
        std::fs::write(&path, bytes).unwrap();
        let Ok(mut trace) = Trace::open(&path) else { continue };
        let events = read(&mut trace);
        assert!(!trace.problems().is_empty());
        assert!(events.iter().all(|event| all.contains(event)));
        // Statistics of it are tables all the same.
        statistics(&mut trace).0.to_json();
    }
}

/// A chunk of one stream with events of hypercalls and windows.
fn chunk_of(stream: u32, events: &[(u64, What)]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    for (host, what) in events {
        let event = Event { host: *host, guest: None, what: what.clone() };
        encoder.event(&event, &Numbers);
    }
    let (contents, events, start) = encoder.take();
    let kind = ChunkKind::Events;
    chunk(&ChunkHeader { kind, stream, vcpu: 0, sequence: 0, events, start }, &contents)
}

#[test]
fn request_from_outside_is_no_hypercall_of_a_vcpu() {
    let calls = |count| {
        let (call, outcome) = (Call::Log, CallOutcome::Ok);
        What::Call(CallEvent::Ended { call, outcome, count, bytes: 0, code: CallCode::Site(0) })
    };
    let guests = |window: WindowEvent, call| {
        let (outcome, count) = (CallOutcome::Ok, 1);
        let code = CallCode::Site(0);
        let ended = CallEvent::Ended { call, outcome, count, bytes: 0, code };
        [What::Window(window, Some(code)), What::Call(ended)]
    };
    let [guests_begin, guests_call] = guests(WindowEvent::Began("guest".into()), Call::Begin);
    let vcpu =
        [(10, calls(7)), (40, calls(3)), (50, guests_begin), (51, guests_call), (60, calls(2))];
    let requests = [
        (20, What::Window(WindowEvent::Reset, None)),
        (30, What::Window(WindowEvent::Began("outside".into()), None)),
        (70, What::Window(WindowEvent::Ended("outside".into()), None)),
    ];
    let file = tempfile::NamedTempFile::new().unwrap();
    let chunks = [head().to_chunk(), chunk_of(0, &vcpu), chunk_of(REQUESTS, &requests)];
    std::fs::write(file.path(), chunks.concat()).unwrap();
    let (stats, _) = statistics(&mut Trace::open(file.path()).unwrap());
    let counts = |tables: &crate::Tables| {
        let of =
            |call| tables.hypercalls.iter().find(|row| row.call == call).map_or(0, |row| row.count);
        (of(Call::Log), of(Call::Begin), tables.vcpus[0].hypercalls)
    };
    assert_eq!(counts(&stats.tables), (5, 1, 6));
    let windows: Vec<_> =
        stats.windows.iter().map(|row| (&*row.name, counts(&row.tables))).collect();
    assert_eq!(windows, [("outside", (5, 1, 6)), ("guest", (2, 0, 2))]);
    // All calls are of one site. The one that begins a window is not in it.
    let by_site = |tables: &crate::Tables| -> Vec<(Call, u64)> {
        tables.call_sites.iter().map(|row| (row.call, row.counts.calls)).collect()
    };
    assert_eq!(by_site(&stats.tables), [(Call::Log, 5), (Call::Begin, 1)]);
    assert_eq!(by_site(&stats.windows[1].tables), [(Call::Log, 2)]);
}

#[test]
fn accesses_by_hypercall_have_site_chain_and_process() {
    let access = |port, value, site, stack, process: Option<u32>| {
        What::Call(CallEvent::Access {
            call: Call::Outb,
            port: Port(port),
            value,
            code: site,
            stack,
            process: process.map(|number| Process { number: Some(number), is_user: false }),
            completes: true,
        })
    };
    // The chain of stack 4 was unwound.
    let [site, other] = [CallCode::Site(1), CallCode::Dropped(9)];
    let events = [
        (1, access(1, 0, site, Some(4), Some(2))),
        (2, access(1, 0, site, Some(4), Some(2))),
        (3, access(2, 0, site, None, Some(2))),
        (4, access(2, 5, other, Some(4), Some(2))),
    ];
    let file = tempfile::NamedTempFile::new().unwrap();
    let head = Head { callers: true, processes: true, ..head() };
    std::fs::write(file.path(), [head.to_chunk(), chunk_of(0, &events)].concat()).unwrap();
    let (stats, _) = statistics(&mut Trace::open(file.path()).unwrap());
    assert_eq!(stats.discrepancies(), []);
    let [row] = &stats.call_sites[..] else { panic!("{:?}", stats.call_sites) };
    assert_eq!((row.at, row.counts.calls, row.counts.accesses), (CallAt::Return, 3, 3));
    assert_eq!((stats.call_sites_dropped_counts.calls, stats.call_accesses_dropped), (1, 1));
    let ports: Vec<_> = stats.call_accesses.iter().map(|row| (row.port.0, row.accesses)).collect();
    assert_eq!(ports, [(1, 2), (2, 1)]);
    let chains: Vec<_> = stats.call_callers.iter().map(|row| (row.end, row.accesses)).collect();
    assert_eq!(chains, [(ChainEnd::User, 2), (ChainEnd::Dropped, 1)]);
    assert_eq!((stats.processes[0].hypercall, stats.processes[0].counts.accesses), (4, 0));
}
