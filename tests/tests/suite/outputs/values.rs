//! Values at ports, compared with the access log of the same run, and with code that is known.

use std::collections::BTreeMap;

use pvio::stats::Snapshot;
use pvio_cli::expected_forms;
use pvio_cli::machine::Machine;
use pvio_tests::{
    Host, LinuxGuest, assert_consistent, bios, on_both_qemus, parse_hex, run_guest, run_seabios,
};

on_both_qemus! {
    seabios_says_what_its_log_says
    the_forms_guest_moves_the_values_that_its_log_has
    four_vcpus_move_the_values_that_their_log_has
    linux_moves_the_values_that_its_log_has
    calls_move_the_values_that_their_log_has
    values_without_a_log_are_the_same
    time_is_the_hosts_under_icount
    more_values_than_there_is_room_for_are_dropped
}

/// A port with direction and size, and the value.
type Key = (String, String, String, Option<u64>);

/// A value in a run: verified and unverified accesses, and the accesses before the first and the last.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    counts: [u64; 2],
    before: [u64; 2],
}

fn logged(log: &str, covers: impl Fn(u64) -> bool) -> BTreeMap<Key, Seen> {
    let (mut seen, mut made) = (BTreeMap::<Key, Seen>::new(), 0);
    for line in log.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_time, _vcpu, _pc, dir, port, size, value, ..] = words[..] else { panic!("{line}") };
        let may_fault_unreported = value.ends_with('?');
        if covers(parse_hex(port)) {
            let value = (value != "-").then(|| parse_hex(value.trim_end_matches('?')));
            let row = seen.entry((port.to_owned(), dir.to_owned(), size.to_owned(), value));
            let row = row.or_insert(Seen { counts: [0; 2], before: [made; 2] });
            row.counts[usize::from(may_fault_unreported)] += 1;
            row.before[1] = made;
        }
        made += u64::from(!may_fault_unreported);
    }
    seen
}

fn counted(stats: &Snapshot) -> BTreeMap<Key, Seen> {
    assert_consistent(stats);
    assert_eq!(stats.values_dropped, Default::default());
    let rows = stats.values.iter().map(|row| {
        let key = (
            row.port.to_string(),
            row.dir.to_string(),
            row.size.to_string(),
            row.value.map(u64::from),
        );
        let [first, last] = [row.first, row.last].map(Option::unwrap);
        assert!(first.time_ns <= last.time_ns && first.accesses <= last.accesses, "{row:?}");
        let counts = [row.counts.accesses, row.counts.unverified];
        (key, Seen { counts, before: [first, last].map(|moment| moment.accesses) })
    });
    rows.collect()
}

fn run_logged(
    machine: Machine,
    ports: &str,
    covers: impl Fn(u64) -> bool,
    run: impl FnOnce(Machine) -> Snapshot,
) -> (Snapshot, BTreeMap<Key, Seen>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (log, values) = (format!("access-log={}", path.display()), format!("values={ports}"));
    let stats = run(machine.plugin(&["summary=off", "symbols=off", &log, &values]));
    let log = std::fs::read_to_string(path).unwrap();
    (stats, logged(&log, covers))
}

/// Checks values on one vCPU, whose order is that of its log.
fn assert_as_logged(
    machine: Machine,
    ports: &str,
    covers: impl Fn(u64) -> bool,
    run: impl FnOnce(Machine) -> Snapshot,
) {
    let (stats, expected) = run_logged(machine, ports, covers, run);
    assert!(expected.len() > 2, "{expected:?}");
    assert_eq!(counted(&stats), expected);
}

/// POST codes, CMOS indexes, values read from the CMOS, and messages.
fn seabios_says_what_its_log_says(host: &Host) {
    let covers = |port| matches!(port, 0x70 | 0x71 | 0x80 | 0x402);
    assert_as_logged(host.machine(), "0x70-0x71:0x402:0x80", covers, |machine| {
        let ended = run_seabios(machine);
        let stats = ended.stats().unwrap();
        assert_eq!(stats.values_clock.as_deref(), Some("guest"));
        stats.clone()
    });
}

/// Strings, faults, and accesses that may have faulted.
fn the_forms_guest_moves_the_values_that_its_log_has(host: &Host) {
    assert_as_logged(
        host.machine(),
        "0-0xffff",
        |_| true,
        |machine| run_guest(machine, "forms").stats().clone(),
    );
}

fn four_vcpus_move_the_values_that_their_log_has(host: &Host) {
    let machine = host.machine().args(["-smp", "4"]);
    let (stats, expected) = run_logged(
        machine,
        "0-0xffff",
        |_| true,
        |machine| run_guest(machine, "forms").stats().clone(),
    );
    let counts = |rows: BTreeMap<Key, Seen>| -> BTreeMap<Key, [u64; 2]> {
        rows.into_iter().map(|(key, seen)| (key, seen.counts)).collect()
    };
    assert_eq!(counts(counted(&stats)), counts(expected));
}

fn linux_moves_the_values_that_its_log_has(host: &Host) {
    let linux = LinuxGuest::new("cat /proc/ioports", &[]).unwrap();
    let covers = |port| matches!(port, 0x70 | 0x80 | 0xcf8);
    assert_as_logged(linux.on(host.machine()), "0x70:0xcf8:0x80", covers, |machine| {
        machine.run().unwrap().stats().unwrap().clone()
    });
}

fn calls_move_the_values_that_their_log_has(host: &Host) {
    let machine = host.machine().plugin(&["device=latch@0x5000"]);
    assert_as_logged(
        machine,
        "0-0xffff",
        |_| true,
        |machine| {
            let stats = run_guest(machine, "mailbox-16").stats().clone();
            assert!(stats.ports.iter().any(|row| row.hypercall > 0));
            stats
        },
    );
}

/// The access log, too, listens to accesses: values do not depend on it.
fn values_without_a_log_are_the_same(host: &Host) {
    let run = |machine: Machine| run_guest(machine, "forms").stats().clone();
    let (with_log, _) = run_logged(host.machine(), "0-0xffff", |_| true, run);
    let values = ["summary=off", "values=0-0xffff"];
    let alone = run(host.machine().plugin(&values));
    assert_eq!(counted(&alone), counted(&with_log));
}

fn time_is_the_hosts_under_icount(host: &Host) {
    let values = ["summary=off", "values=0-0xffff"];
    let machine = host.machine().plugin(&values).args(["-icount", "shift=0"]);
    let stats = run_guest(machine, "forms").stats().clone();
    assert_eq!(stats.values_clock.as_deref(), Some("host"));
    counted(&stats);
}

/// The guest reads each port once; without a device each reads as ones.
fn more_values_than_there_is_room_for_are_dropped(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    // mov dx, 0x5000; in al, dx; inc dx; cmp dx, 0x6004; jne -8
    let code = [0xba, 0x00, 0x50, 0xec, 0x42, 0x81, 0xfa, 0x04, 0x60, 0x75, 0xf8];
    let ended = host
        .machine()
        .plugin(&["summary=off", "values=0x5000-0x6fff"])
        .bare_guest(&bios(&directory, code.to_vec()))
        .run()
        .unwrap();
    assert_eq!(ended.status.code(), Some(expected_forms::PASSED), "{}", ended.stderr);
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    assert_eq!((stats.values.len(), stats.values_dropped.accesses), (4096, 4));
    let expected = (0x5000..0x6000).zip(0..);
    assert!(stats.values.iter().zip(expected).all(|(row, (port, before))| {
        (row.port.0, row.value, row.counts.accesses) == (port, Some(0xff), 1)
            && [row.first, row.last].map(|moment| moment.unwrap().accesses) == [before; 2]
    }));
}
