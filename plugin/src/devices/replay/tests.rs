//! How the place in a recording moves: polls, strings, interrupt lines, differences.

use std::path::Path;

use pvio_stats::QemuRow;
use pvio_stats::trace::{
    CallSiteDefinition, ChunkHeader, ChunkKind, Code, Define, Encoder, End, Event, Head, InsnEvent,
    ProcessDefinition, REQUESTS, SiteDefinition, StackDefinition, Stage, StreamEnd, What, chunk,
};

use super::access::{Access, Key};
use super::player::{Counts, Player};
use super::recording::{Recording, Step};
use crate::x86::{Direction, Port, PortForm, PortRange};

const STATUS: u16 = 0x1f7;
const DATA: u16 = 0x1f0;
const OTHER: u16 = 0x3f6;

/// A step of a recording: a byte that is read or written, a word that a string reads or writes, or a line.
#[derive(Clone, Copy)]
enum Recorded {
    In(u16, u8),
    Out(u16, u8),
    Ins(u16),
    Outs(u16),
    Irq(bool),
}
use Recorded::{In, Ins, Irq, Out, Outs};

fn player(steps: &[Recorded]) -> Player {
    let mut recording = Recording::default();
    for &step in steps {
        let (port, size, direction, value, is_string) = match step {
            In(port, value) => (port, 1, Direction::In, value.into(), false),
            Out(port, value) => (port, 1, Direction::Out, value.into(), false),
            Ins(value) => (DATA, 2, Direction::In, value, true),
            Outs(value) => (DATA, 2, Direction::Out, value, true),
            Irq(level) => {
                recording.steps.push(Step::Irq { line: 14, level });
                continue;
            }
        };
        let key = Key { port, size, direction };
        recording.push(Access { key, value: value.into() }, is_string);
    }
    Player::new(recording)
}

/// Fails unless the whole recording was replayed. Returns the reads that were left out, and those that came in addition.
#[track_caller]
fn assert_replayed(player: &Player) -> (u64, u64) {
    let Counts { passed, left_out, extra, differences } = player.counts();
    let total = player.recording().total;
    assert_eq!(
        (passed, differences),
        (total, 0),
        "{:?}",
        player.difference.as_ref().map(|d| d.lines())
    );
    (left_out, extra)
}

#[test]
fn polled_status_advances_as_it_was_recorded() {
    let mut player =
        player(&[Out(STATUS, 0x20), In(STATUS, 0x80), In(STATUS, 0x80), In(STATUS, 0x58), Ins(7)]);
    player.write(STATUS, 1, 0x20);
    let mut polls = 0;
    while player.read(STATUS, 1) & 8 == 0 {
        polls += 1;
    }
    assert_eq!((polls, player.read(DATA, 2)), (2, 7));
    assert_eq!(assert_replayed(&player), (0, 0));
    assert_eq!(player.read(STATUS, 1), 0x58, "the last status stays");
    assert_eq!(player.counts().extra, 1);
}

#[test]
fn poll_may_be_shorter_than_recorded() {
    let mut player = player(&[
        In(OTHER, 1),
        In(OTHER, 1),
        In(OTHER, 1),
        Out(STATUS, 0x20),
        In(OTHER, 1),
        In(STATUS, 0x58),
        In(OTHER, 1),
        Out(STATUS, 0x21),
    ]);
    assert_eq!(player.read(OTHER, 1), 1);
    player.write(STATUS, 1, 0x20);
    // The reads of the other port repeat its value.
    assert_eq!(player.read(STATUS, 1), 0x58);
    player.write(STATUS, 1, 0x21);
    assert_eq!(assert_replayed(&player), (4, 0));
}

#[test]
fn poll_does_not_advance_beyond_an_access_that_must_come_first() {
    let mut player = player(&[In(STATUS, 0x50), Out(STATUS, 0x20), In(STATUS, 0x58)]);
    for _ in 0..100 {
        assert_eq!(player.read(STATUS, 1), 0x50);
    }
    player.write(STATUS, 1, 0x20);
    assert_eq!(player.read(STATUS, 1), 0x58);
    assert_eq!(assert_replayed(&player), (0, 99));
}

#[test]
fn value_after_a_write_is_not_that_before_it() {
    // The driver reads the status once more than recorded, directly after the command.
    let mut player = player(&[
        In(STATUS, 0x50),
        Out(STATUS, 0x20),
        In(OTHER, 0x80),
        In(OTHER, 0x58),
        In(STATUS, 0x58),
    ]);
    player.read(STATUS, 1);
    player.write(STATUS, 1, 0x20);
    assert_eq!(player.read(STATUS, 1), 0x58, "not 0x50");
    assert_eq!(
        [player.read(OTHER, 1), player.read(OTHER, 1), player.read(STATUS, 1)],
        [0x80, 0x58, 0x58]
    );
    assert_eq!(assert_replayed(&player), (0, 1));
}

#[test]
fn reads_with_new_values_may_be_left_out_before_a_write() {
    let mut player = player(&[In(OTHER, 1), In(OTHER, 2), In(STATUS, 3), Out(STATUS, 4)]);
    player.write(STATUS, 1, 4);
    assert_eq!(assert_replayed(&player), (3, 0));
}

#[test]
fn equal_elements_of_a_string_are_not_polls() {
    let recorded = [Ins(0), Ins(0), Ins(0), Out(STATUS, 1)];
    let mut whole = player(&recorded);
    let mut data = [0xff; 6];
    assert_eq!(whole.read_elements(DATA, 2, &mut data), 3);
    assert_eq!(data, [0; 6]);
    whole.write(STATUS, 1, 1);
    assert_replayed(&whole);

    let mut short = player(&recorded);
    assert_eq!(short.read_elements(DATA, 2, &mut data[..4]), 2);
    short.write(STATUS, 1, 1);
    assert_eq!(short.first_difference, Some(2));
    assert_eq!(short.counts().differences, 1);

    let mut long = player(&recorded);
    assert_eq!(long.read_elements(DATA, 2, &mut data), 3);
    assert_eq!(long.read(DATA, 2), 0xffff);
    assert_eq!(long.first_difference, Some(3));
    long.write(STATUS, 1, 1);
    assert_eq!(long.counts().passed, 4);
}

#[test]
fn strings_may_come_in_any_pieces() {
    let steps: Vec<Recorded> = (0..100).map(Ins).chain((0..100).map(Outs)).collect();
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..50 {
        let mut player = player(&steps);
        let (mut read, mut written) = (Vec::new(), 0u16);
        while read.len() < 200 {
            let mut piece = vec![0; 2 * rng.usize(1..9)];
            match rng.bool() {
                true => {
                    let count = player.read_elements(DATA, 2, &mut piece);
                    read.extend_from_slice(&piece[..2 * count]);
                }
                false => read.extend((player.read(DATA, 2) as u16).to_le_bytes()),
            }
        }
        let expected: Vec<u8> = (0..100u16).flat_map(u16::to_le_bytes).collect();
        assert_eq!(read, expected);
        while written < 100 {
            let piece: Vec<u8> =
                (written..100).take(rng.usize(1..9)).flat_map(u16::to_le_bytes).collect();
            match rng.bool() {
                true => written += player.write_elements(DATA, 2, &piece) as u16,
                false => {
                    player.write(DATA, 2, written.into());
                    written += 1;
                }
            }
        }
        assert_eq!(assert_replayed(&player), (0, 0));
    }
}

#[test]
fn written_string_differs_at_its_first_wrong_element() {
    let mut player = player(&[Outs(1), Outs(2), Outs(3)]);
    let data: Vec<u8> = [1u16, 5, 3].into_iter().flat_map(u16::to_le_bytes).collect();
    assert_eq!(player.write_elements(DATA, 2, &data), 1);
    assert_eq!(player.write_elements(DATA, 2, &data[2..]), 0);
    player.write(DATA, 2, 5);
    assert_eq!(player.first_difference, Some(1));
}

#[test]
fn lines_change_after_the_access_that_they_followed() {
    let mut player = player(&[
        Out(STATUS, 0x20),
        Irq(true),
        In(STATUS, 0x58),
        Irq(false),
        Out(OTHER, 2),
        Irq(true),
        Irq(false),
        In(OTHER, 1),
        In(OTHER, 1),
        Irq(true),
    ]);
    let irqs =
        |player: &mut Player| player.irqs.drain(..).map(|(_, level)| level).collect::<Vec<_>>();
    player.write(STATUS, 1, 0x20);
    assert_eq!(irqs(&mut player), [true]);
    player.read(STATUS, 1);
    assert_eq!(irqs(&mut player), [false]);
    // An extra read is not a place.
    player.read(STATUS, 1);
    assert_eq!(irqs(&mut player), [false; 0]);
    player.write(OTHER, 1, 2);
    assert_eq!(irqs(&mut player), [true, false]);
    player.read(OTHER, 1);
    assert_eq!(irqs(&mut player), [false; 0], "the poll goes on");
    player.read(OTHER, 1);
    assert_eq!(irqs(&mut player), [true]);
}

#[test]
fn difference_says_both_histories() {
    let mut player = player(&[
        Out(0x70, 0x10),
        In(0x71, 0x26),
        In(STATUS, 0x80),
        In(STATUS, 0x80),
        Irq(true),
        Out(0x70, 0x11),
        Out(0x70, 0x12),
        Ins(1),
        Ins(2),
    ]);
    player.write(0x70, 1, 0x10);
    player.read(0x71, 1);
    player.read(STATUS, 1);
    player.write(0x70, 1, 0x12);
    let lines = player.difference.take().unwrap().lines();
    let expected = [
        "first difference, after 3 of 8 recorded accesses: the driver makes out 0x0070 1 0x12; next recorded: out 0x0070 1 0x11",
        "recorded before: out 0x0070 1 0x10; in 0x0071 1 0x26; in 0x01f7 1 0x80",
        "recorded next: in 0x01f7 1 0x80; irq 14 raised; out 0x0070 1 0x11; out 0x0070 1 0x12; in 0x01f0 2 (2 times)",
        "the driver before: out 0x0070 1 0x10; in 0x0071 1 0x26; in 0x01f7 1 0x80",
    ];
    assert_eq!(lines, expected);
    assert_eq!(player.counts().passed, 6, "it goes on behind the recorded write of this value");
    player.write(0x70, 1, 0x13);
    assert_eq!((player.counts().differences, player.difference.is_none()), (2, true));
    assert_eq!(player.read(0x80, 1), 0xff);
    assert_eq!(player.counts().differences, 3);
}

#[test]
fn driver_that_waits_in_vain_is_told_and_goes_on() {
    let mut player = player(&[In(STATUS, 0x80), Out(OTHER, 2), In(STATUS, 0x58)]);
    let polls = (1..).find(|_| player.read(STATUS, 1) == 0x58).unwrap();
    assert_eq!(polls, 1_000_001);
    assert_eq!(player.first_difference, Some(1));
    let lines = player.difference.take().unwrap().lines();
    assert!(lines[0].contains("the driver repeats in 0x01f7 1 and waits"), "{lines:?}");
}

/// The sites of a trace: the number of a site is that of its form.
struct Forms;

impl Define for Forms {
    fn site(&self, site: u32) -> SiteDefinition {
        let form = PortForm::ALL[site as usize].into();
        SiteDefinition {
            pc: 0x1000,
            mode: None,
            form,
            boot: 0,
            privilege: None,
            bytes: vec![0xee],
            place: None,
        }
    }

    fn call_site(&self, _site: u32) -> CallSiteDefinition {
        unreachable!("no event has one")
    }

    fn stack(&self, _stack: u32) -> StackDefinition {
        unreachable!("no event has one")
    }

    fn process(&self, _process: u32) -> ProcessDefinition {
        unreachable!("no event has one")
    }
}

fn event(form: PortForm, stage: Stage, port: u16, value: Option<u32>) -> What {
    let code = Code::Site(form as u32);
    let port = Some(Port(port));
    What::Insn(InsnEvent {
        stage,
        code,
        form: form.into(),
        port,
        value,
        stack: None,
        process: None,
    })
}

/// Writes a trace of one vCPU and of interrupt lines.
fn write_trace(path: &Path, filter: &str, events: &[What]) {
    let head = Head {
        pvio: "".into(),
        qemu: QemuRow { version: None, plugin_api: 7, target: "x86_64".to_owned() },
        began: 0,
        reports_exceptions: true,
        reads_memory: true,
        callers: false,
        processes: false,
        filter: filter.to_owned(),
        irqs: true,
        devices: Vec::new(),
    };
    let mut bytes = head.to_chunk();
    let mut streams = Vec::new();
    for stream in [0, REQUESTS] {
        let mut encoder = Encoder::new();
        for (host, what) in (10..).zip(events) {
            let is_request = matches!(what, What::Irq { .. } | What::Off);
            if is_request == (stream == REQUESTS) {
                encoder.event(&Event { host, guest: None, what: what.clone() }, &Forms);
            }
        }
        if encoder.is_empty() {
            continue;
        }
        let (contents, events, start) = encoder.take();
        let header =
            ChunkHeader { kind: ChunkKind::Events, stream, vcpu: 0, sequence: 0, events, start };
        bytes.extend(chunk(&header, &contents));
        streams.push(StreamEnd { stream, chunks: 1 });
    }
    bytes.extend(End { streams, ..End::default() }.to_chunk());
    std::fs::write(path, bytes).unwrap();
}

fn load(events: &[What], filter: &str, ranges: &[&str], irqs: u16) -> Recording {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace");
    write_trace(&path, filter, events);
    let ranges: Vec<PortRange> =
        ranges.iter().map(|range| PortRange::parse(range, 1).unwrap()).collect();
    Recording::load(&path, &ranges, irqs).unwrap()
}

#[test]
fn recording_has_the_accesses_to_its_ports_alone() {
    let done = Stage::Executed;
    let irq = |line, level| What::Irq { line, level };
    let recording = load(
        &[
            irq(14, true),
            event(PortForm::OutDxAl, done, 0x2ff, Some(9)),
            event(PortForm::OutDxAl, done, 0x300, Some(1)),
            irq(4, true),
            irq(14, false),
            event(PortForm::InAxDx, done, 0x301, Some(0x1234)),
            event(PortForm::InEaxDx, done, 0x303, Some(0x7856_3412)),
            event(PortForm::OutDxAl, Stage::Faulted, 0x300, Some(2)),
            event(PortForm::OutDxAl, done, 0x300, Some(3)),
            event(PortForm::OutDxAl, Stage::ExecutedBecomesExit, 0x300, None),
            event(PortForm::InAlDx, done, 0x304, Some(9)),
            event(PortForm::InAlDx, done, 0x310, Some(5)),
            event(PortForm::InAlDx, done, 0x310, None),
        ],
        "",
        &["0x300-0x303", "0x310"],
        1 << 14,
    );
    let mut player = Player::new(recording);
    player.write(0x300, 1, 1);
    assert_eq!(player.irqs, [(14, false)], "only its line, and not before the first access");
    // QEMU gives the device the bytes at its own ports.
    assert_eq!(
        [player.read(0x301, 2), player.read(0x303, 1), player.read(0x310, 1)],
        [0x1234, 0x12, 5]
    );
    assert_eq!(assert_replayed(&player), (0, 0));
    let recording = player.recording();
    assert_eq!((recording.total, recording.irqs), (4, 1 << 14 | 1 << 4));
    assert_eq!(
        recording.problems,
        [
            "does not have the values of 1 of the accesses to these ports",
            "has accesses (1) that go beyond the last port; their other bytes read as all ones, so give the device those \
             ports as well"
        ]
    );
}

#[test]
fn filtered_recording_is_a_problem_unless_it_has_whole_ports() {
    let access = event(PortForm::OutDxAl, Stage::Executed, 0x300, Some(1));
    let problems = |filter, events: &[What]| load(events, filter, &["0x300"], 0).problems.len();
    assert_eq!(problems("0x300-0x30f:0x310", std::slice::from_ref(&access)), 0);
    assert_eq!(problems("0x300:out", std::slice::from_ref(&access)), 1);
    assert_eq!(problems("", &[access, What::Off]), 1);
}

/// One second of polling, and a disk's data, take little memory.
#[test]
fn polls_and_strings_are_runs() {
    let mut steps = vec![In(STATUS, 0x80); 1_000_000];
    steps.extend((0..50_000).map(Ins));
    steps.push(In(STATUS, 0x50));
    let player = player(&steps);
    assert_eq!(player.recording().steps.len(), 3);
    assert_eq!(player.recording().total, 1_050_001);
}
