//! The Rust shim in one guest image: without the plugin, with calls unanswered, and with calls answered.
//!
//! `tests/guests/README.md` describes the guest `shim-rust`.

use std::collections::BTreeMap;

use pvio::stats::{PortRow, Snapshot};
use pvio::x86::Direction::{self, In, Out};
use pvio_cli::machine::Machine;
use pvio_tests::{Host, assert_consistent, guest};

/// The number of bytes that the guest copies. They take three pages.
const STREAM: usize = 10_000;

const HEARD: &str = "hypercalls: Host { version: 1, features: Features(0x1f) }";
const UNANSWERED: &str = "hypercalls: unheard";
const REGISTERED: &str = "mailbox: Ok(Host { version: 1, features: Features(0x1f) })";
const UNREGISTERED: &str = "mailbox: Err(Unanswered)";

/// A run of the guest, and its outputs.
struct Run {
    status: Option<i32>,
    /// The guest's output on COM1.
    text: String,
    stats: Option<Snapshot>,
}

impl Run {
    /// Runs the guest on a machine with COM1.
    fn of(machine: Machine) -> Run {
        let directory = tempfile::tempdir().unwrap();
        let com1 = directory.path().join("com1");
        let machine = machine.args(["-serial", &format!("file:{}", com1.display())]);
        let ended = machine.bare_guest(&guest("shim-rust.bin")).run().unwrap();
        let text = std::fs::read_to_string(com1).unwrap();
        Run { status: ended.status.code(), text, stats: ended.stats }
    }

    /// Runs the guest with the plugin, its devices and more options. Checks the copy.
    fn with_devices(host: &Host, options: &[&str]) -> Run {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name).display().to_string();
        let input: Vec<u8> = (0..STREAM).map(|index| (index * 7 + index / 256) as u8).collect();
        std::fs::write(path("in"), &input).unwrap();
        let stream = format!("device=stream@0x300:in={}:out={}", path("in"), path("out"));
        let devices = ["summary=off", "device=latch@0x5000", &stream];
        let run = Run::of(host.machine().plugin(&devices).plugin(options));
        let output = std::fs::read(path("out")).unwrap();
        assert!(output == [&input[..], b"text"].concat(), "{}", run.text);
        run
    }

    fn assert_passed(
        &self,
        status: i32,
        [hypercalls, mailbox]: [&str; 2],
        served: bool,
        page_faults: u32,
    ) {
        let stream = if served { STREAM } else { u32::MAX as usize };
        let lines = [
            hypercalls,
            &format!("latch: {served}"),
            mailbox,
            &format!("stream: {stream:#x}"),
            &format!("batch: written to the stream: {served}"),
            &format!("page faults: {page_faults}"),
            "passed",
        ];
        assert_eq!(self.text.lines().collect::<Vec<_>>(), lines);
        assert_eq!(self.status, Some(status));
    }

    fn stats(&self) -> &Snapshot {
        self.stats.as_ref().unwrap()
    }
}

/// Accesses by hypercall and by instruction, by port, direction and size.
type Rows = BTreeMap<(u16, Direction, u8), (u64, u64)>;

/// All accesses of the guest if its calls are answered.
fn expected(text: &str) -> Rows {
    let drives = |count: u64| (4 * count, 2 * count);
    let more = |(calls, instructions): (u64, u64), more: u64| (calls + more, instructions);
    let rows = [
        // Four drives by hypercall (one through the mailbox), two by instruction; ports as values; the batches.
        ((0x5000, In, 1), more(drives(1 + 4), 2)),
        ((0x5001, In, 1), (1 + 1, 0)),
        ((0x5000, In, 2), more(drives(3), 2 + 4 + 1 + 1)),
        ((0x5002, In, 2), more(drives(1), 1)),
        ((0x5000, In, 4), more(drives(1 + 2), 2 + 1)),
        ((0x5000, Out, 1), more(drives(1 + 3), 2 + 2)),
        ((0x5001, Out, 1), drives(1)),
        ((0x5000, Out, 2), more(drives(3), 2 + 2 + 1)),
        ((0x5001, Out, 2), (1, 0)),
        ((0x5002, Out, 2), drives(1)),
        ((0x5000, Out, 4), more(drives(1 + 2), 2 + 1)),
        // The copy, and the text that the batch appends.
        ((0x300, In, 1), (STREAM as u64 / 2, 0)),
        ((0x300, In, 2), (STREAM as u64 * 3 / 20, 0)),
        ((0x300, In, 4), (STREAM as u64 / 20, 0)),
        ((0x300, Out, 1), (STREAM as u64 / 2 + 4, 0)),
        ((0x300, Out, 2), (STREAM as u64 * 3 / 20, 0)),
        ((0x300, Out, 4), (STREAM as u64 / 20, 0)),
        ((0x304, In, 4), (2, 0)),
        ((0x3f8, Out, 1), (text.len() as u64, 0)),
    ];
    rows.into()
}

/// The same if no call is answered: only instructions, and one more for the end.
fn by_instructions(text: &str) -> Rows {
    let rows = expected(text).into_iter();
    let mut rows: Rows =
        rows.map(|(key, (calls, instructions))| (key, (0, calls + instructions))).collect();
    rows.insert((0xf4, Out, 1), (0, 1));
    rows
}

fn counted(stats: &Snapshot) -> Rows {
    let key = |row: &PortRow| (row.port.0, row.dir, row.size.bytes().unwrap());
    let rows = stats.ports.iter();
    rows.map(|row| (key(row), (row.hypercall, row.device + row.qemu))).collect()
}

#[test]
fn guest_passes_without_the_plugin() {
    for host in [Host::STABLE, Host::NEWEST] {
        Run::of(host.machine()).assert_passed(1, [UNANSWERED, UNREGISTERED], false, 18);
    }
}

#[test]
fn unanswered_calls_become_instructions() {
    for host in [Host::STABLE, Host::NEWEST] {
        let run = Run::with_devices(&host, &["hypercall=off"]);
        run.assert_passed(1, [UNANSWERED, UNREGISTERED], true, 21);
        let stats = run.stats();
        assert_consistent(stats);
        assert_eq!(counted(stats), by_instructions(&run.text));
        assert!(stats.hypercalls.iter().all(|row| row.count == 0), "{:?}", stats.hypercalls);
        assert!(stats.windows.is_empty(), "{:?}", stats.windows);
    }
}

/// Plugin API 4 answers the mailbox only: one drive.
#[test]
fn mailbox_works_without_register_calls() {
    let run = Run::with_devices(&Host::STABLE, &[]);
    run.assert_passed(1, [UNANSWERED, REGISTERED], true, 21);
    let stats = run.stats();
    assert_consistent(stats);
    let mut rows = by_instructions(&run.text);
    for (key, count) in [
        ((0x5000, In, 1), 1 + 4),
        ((0x5000, In, 2), 3),
        ((0x5002, In, 2), 1),
        ((0x5000, In, 4), 1 + 2),
        ((0x5000, Out, 1), 1 + 3),
        ((0x5001, Out, 1), 1),
        ((0x5000, Out, 2), 3),
        ((0x5002, Out, 2), 1),
        ((0x5000, Out, 4), 1 + 2),
    ] {
        let (hypercall, other) = rows.get_mut(&key).unwrap();
        (*hypercall, *other) = (count, *other - count);
    }
    assert_eq!(counted(stats), rows);
    let calls = stats.hypercalls.iter();
    let calls: Vec<_> = calls.map(|row| (row.call.name(), row.count, row.errors)).collect();
    let expected = [
        ("inb", 1, 0),
        ("inw", 1, 0),
        ("inl", 1, 0),
        ("outb", 2, 0),
        ("outw", 1, 0),
        ("outl", 1, 0),
        ("insb", 1, 0),
        ("insw", 1, 0),
        ("insl", 1, 0),
        ("outsb", 1, 0),
        ("outsw", 1, 0),
        ("outsl", 1, 0),
        ("release", 1, 0),
        ("register_large", 1, 0),
    ];
    assert_eq!(calls, expected);
}

#[test]
fn answered_guest_makes_hypercalls() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let run = Run::with_devices(&Host::NEWEST, &[&format!("log={}", log.display())]);
    run.assert_passed(0, [HEARD, REGISTERED], true, 23);

    let stats = run.stats();
    assert_consistent(stats);
    assert_eq!(stats.ended, "shutdown");
    assert_eq!(counted(stats), expected(&run.text));

    let log = std::fs::read_to_string(log).unwrap();
    let lines: Vec<&str> = log.lines().map(|line| line.split_once("] ").unwrap().1).collect();
    assert_eq!(
        lines,
        ["error: error 1", "warning: warni...", "info: two\u{a0}pages.", "debug: from ROM"]
    );
}

#[test]
fn files_are_copied_through_absent_pages() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let contents: Vec<u8> = (0..100_001_u32).map(|index| (index % 251) as u8).collect();
    std::fs::write(path("in"), &contents).unwrap();
    let share = format!("share={}", directory.path().display());
    let run = Run::with_devices(&Host::NEWEST, &["log=/dev/null", &share]);
    assert_eq!(run.status, Some(0), "{}", run.text);
    assert!(run.text.contains("features: Features(0x3f)"), "{}", run.text);
    assert!(std::fs::read(path("out")).unwrap() == contents);
    assert_eq!(directory.path().read_dir().unwrap().count(), 2);
    let rows = &run.stats().hypercalls;
    for call in ["file_read", "file_write"] {
        let row = rows.iter().find(|row| row.call.name() == call).unwrap();
        assert_eq!(row.bytes, contents.len() as u64, "{call}");
    }
}

/// Calls by name: count, bytes, errors.
#[test]
fn every_call_is_counted_with_bytes_and_errors() {
    let run = Run::with_devices(&Host::NEWEST, &["log=/dev/null"]);
    let stats = run.stats();
    let text = run.text.len() as u64;
    let rows: Vec<(&str, u64, u64, u64)> = stats
        .hypercalls
        .iter()
        .filter(|row| row.count != 0)
        .map(|row| (row.call.name(), row.count, row.bytes, row.errors))
        .collect();
    // The shim repeats a string call for each untouched page. It repeats a batch, too, and the string in
    // it that stopped counts again.
    let port_io = [
        ("inb", 4 + 2 + 1 + 1, 8, 0),
        ("inw", 4 + 2 + 1 + 1 + 1, 2 * 9, 0),
        ("inl", 4 + 2 + 2 + 1, 4 * 9, 0),
        ("outb", 8 + 2 + 2, 12, 0),
        ("outw", 4 + 2 + 1 + 1, 2 * 8, 0),
        ("outl", 4 + 2 + 1, 4 * 7, 0),
        ("insb", 4 + 3, 4 * 4 + 5000, 0),
        ("insw", 4 + 1 + 3, 4 * 6 + 3000 + 8, 0),
        ("insl", 4 + 2, 4 * 8 + 2000, 0),
        ("outsb", 4 + 3 + 3 + 7, 4 * 3 + 5000 + 4 + text, 0),
        ("outsw", 4 + 1 + 1, 4 * 6 + 3000 + 4, 0),
        ("outsl", 4 + 2 + 1, 4 * 8 + 2000, 0),
    ];
    let is_port_io = |row: &&(&str, u64, u64, u64)| port_io.iter().any(|other| other.0 == row.0);
    assert_eq!(rows.iter().filter(is_port_io).copied().collect::<Vec<_>>(), port_io);

    // Only `log` moves bytes among the other calls.
    let others = rows.iter().filter(|row| !is_port_io(row));
    let others: Vec<(&str, u64, u64)> = others.map(|row| (row.0, row.1, row.3)).collect();
    assert_eq!(
        others,
        [
            ("probe", 1, 0),
            ("batch", 7, 0),
            ("release", 1, 0),
            ("exit", 1, 0),
            ("log", 4 + 1, 0),
            ("begin", 9, 3),
            ("end", 6, 1),
            ("dump", 1, 0),
            ("register_large", 1, 0),
            ("batch_compact", 4, 0),
        ]
    );
    let log = rows.iter().find(|row| row.0 == "log").unwrap();
    assert_eq!(log.2, ["error 1", "warni...", "two\u{a0}pages.", "from ROM"].concat().len() as u64);
    assert!(stats.hypercalls.iter().all(|row| row.declined == 0 && row.denied == 0));
}

#[test]
fn windows_count_entries_and_accesses() {
    let run = Run::with_devices(&Host::NEWEST, &["log=/dev/null"]);
    let mut windows: Vec<(&str, u64, bool)> = run
        .stats()
        .windows
        .iter()
        .map(|window| (window.name.as_str(), window.entries, window.open))
        .collect();
    windows.sort_unstable();
    assert_eq!(
        windows,
        [
            ("ended", 1, false),
            ("native", 1, false),
            ("open", 1, true),
            ("paravirtual", 1, false),
            ("twice", 2, false),
        ]
    );

    // The accesses of a drive, by hypercall and by instruction.
    let drive = |count: u64| count * (2 + 1 + 1 + 1 + 1 + 1 + (3 + 4) + (3 + 3) + (2 + 2));
    for (name, calls, instructions) in [("native", 0, 1), ("paravirtual", 4, 1)] {
        let windows = &run.stats().windows;
        let window = windows.iter().find(|window| window.name == name).unwrap();
        let (hypercall, other) = window.ports.iter().fold((0, 0), |(hypercall, other), row| {
            (hypercall + row.hypercall, other + row.device + row.qemu)
        });
        assert_eq!((hypercall, other), (drive(calls), drive(instructions)), "{name}");
    }
}
