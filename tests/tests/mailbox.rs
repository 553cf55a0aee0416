//! The mailbox: guests of `tests/guests/calls` register one and make calls through it, by pvio.h and by hand.
//! What they were answered they say; here it is held against what was counted.

use std::collections::BTreeMap;

use pvio::stats::{Call, Snapshot};
use pvio_guest::abi::status;
use pvio_scripts::forms;
use pvio_scripts::machine::{Ended, Machine};
use pvio_tests::{Host, assert_consistent, guest, on_both_qemus};

on_both_qemus! {
    it_is_heard_by_whom_and_where_it_may_be
    with_icount_and_one_instruction_at_a_time_it_is_the_same
}

/// As in `calls/lib/strings.h`.
const STREAM_SIZE: u32 = 8 << 20;

/// What the stream gives, and is given.
fn sequence(size: u32) -> Vec<u8> {
    (0..size).map(|place| (place.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect()
}

/// A guest that has passed.
struct Passed {
    name: String,
    ended: Ended,
    said: String,
}

impl Passed {
    /// The numbers behind a name, in each line that begins with it.
    fn told(&self, name: &str) -> impl Iterator<Item = Vec<u64>> {
        let lines = self.said.lines().filter_map(move |line| {
            line.strip_prefix(name)?.strip_prefix(' ').map(|rest| {
                rest.split(' ').map(|number| number.parse().expect("a number")).collect()
            })
        });
        lines.collect::<Vec<_>>().into_iter()
    }

    fn number(&self, name: &str) -> u64 {
        self.told(name).next().unwrap_or_else(|| panic!("no {name}: {}", self.said))[0]
    }

    fn stats(&self) -> &Snapshot {
        self.ended.stats().unwrap()
    }

    /// Fails unless just those calls are counted that the guest was answered, with as many errors.
    fn assert_counted(&self) {
        let mut expected: BTreeMap<Call, (u64, u64)> = BTreeMap::new();
        for numbers in self.told("call") {
            let [call, count, errors] = numbers[..] else { panic!("{}", self.said) };
            let row = expected.entry(Call::from_number(call as u8)).or_default();
            *row = (row.0 + count, row.1 + errors);
        }
        let rows = self.stats().hypercalls.iter();
        let counted: BTreeMap<_, _> = rows.map(|row| (row.call, (row.count, row.errors))).collect();
        assert_eq!(counted, expected, "{}", self.name);
        assert!(self.stats().hypercalls.iter().all(|row| row.denied == 0), "{}", self.name);
    }
}

/// Boots a guest with pvio's devices; it must pass.
fn run(machine: Machine, name: &str) -> Passed {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("in"), sequence(STREAM_SIZE)).unwrap();
    let stream = format!("device=stream@0x300:in={}:out={}", path("in"), path("out"));
    let passed =
        boot(machine.plugin(&["summary=off", "device=latch@0x5000", &stream]), name, &path("said"));
    assert_consistent(passed.stats());
    if let Some(given) = passed.told("given").next() {
        let written = std::fs::read(path("out")).unwrap();
        assert!(written == sequence(given[0] as u32), "{name}: other bytes than it has written");
    }
    passed
}

fn boot(machine: Machine, name: &str, console: &str) -> Passed {
    let ended = machine
        .bare_guest(&guest(&format!("calls-{name}.bin")))
        .args(["-cpu", "max", "-debugcon", &format!("file:{console}")])
        .run()
        .unwrap();
    let said = std::fs::read_to_string(console).unwrap();
    assert_eq!(ended.status.code(), Some(forms::PASSED), "{name}: {said}{}", ended.stderr);
    Passed { name: name.to_owned(), ended, said }
}

fn it_is_heard_by_whom_and_where_it_may_be(host: &Host) {
    for bits in [32, 64] {
        for options in [&[][..], &["hypercall=any"]] {
            // There it is refused: nobody could be answered.
            if host.api == 4 && !options.is_empty() {
                continue;
            }
            let passed = run(host.machine().plugin(options), &format!("mailbox{bits}"));
            assert_eq!(passed.number("registered"), u64::from(status::OK));
            passed.assert_counted();
            assert!(passed.stats().hypercalls.iter().all(|row| row.declined == 0));
        }
    }
}

fn with_icount_and_one_instruction_at_a_time_it_is_the_same(host: &Host) {
    for arguments in
        [&["-icount", "shift=0"][..], &["-icount", "shift=4"], &["-accel", "tcg,one-insn-per-tb=on"]]
    {
        for bits in [32, 64] {
            let passed = run(host.machine().args(arguments), &format!("mailbox{bits}"));
            assert_eq!(passed.number("registered"), u64::from(status::OK));
            passed.assert_counted();
        }
    }
}
