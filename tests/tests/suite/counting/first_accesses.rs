//! The first access to each port, compared with code that is known, and with the access log of the same run.

use std::collections::{BTreeMap, BTreeSet};

use pvio::stats::Tables;
use pvio_cli::expected_forms;
use pvio_cli::machine::Machine;
use pvio_tests::{
    Host, LinuxGuest, on_both_qemus, port_reader, run_guest, run_seabios, without_modules,
};

on_both_qemus! {
    ports_are_ranked_as_the_code_reads_them
    the_forms_guest_begins_as_its_log_says
    seabios_begins_as_its_log_says
    linux_begins_as_its_log_says
    a_call_is_the_first_access
}

without_modules! {
    the_forms_guest_begins_as_its_log_says
    seabios_begins_as_its_log_says
    linux_begins_as_its_log_says
    ; needs "pvio's devices":
    a_call_is_the_first_access
    ; needs "the devices at its ports":
    ports_are_ranked_as_the_code_reads_them
}

fn ports_are_ranked_as_the_code_reads_them(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let ports = [0x8a00, 0x64, 0x190, 0x3f0, 0x190, 0x280, 0x8a00];
    let summary = directory.path().join("summary");
    let ended = host
        .machine()
        .plugin(&[&format!("summary={}", summary.display())])
        .bare_guest(&port_reader(&directory, &ports))
        .run()
        .unwrap();
    assert_eq!(ended.status.code(), Some(expected_forms::PASSED), "{}", ended.stderr);
    let address = |index: usize| format!("{:#x}", 0xffff_e000_u64 + 4 * index as u64 + 3);
    let stats = ended.stats().unwrap();
    for (rank, index) in (1..).zip([0, 1, 2, 3, 5]) {
        let row = stats.ports.iter().find(|row| row.port.0 == ports[index]).unwrap();
        let first = row.first.as_ref().unwrap();
        assert_eq!((first.rank, first.pc.as_ref()), (rank, Some(&address(index))), "{row:?}");
        assert_eq!((first.symbol.as_ref(), first.hypercall), (None, false));
    }
    let summary = std::fs::read_to_string(summary).unwrap();
    let title = "All ports that no device serves, in the order of their first access\n";
    let table = summary.split(title).nth(1).unwrap_or_else(|| panic!("{summary}"));
    let listed = table.lines().skip(1).map_while(|line| line.split_whitespace().next());
    assert_eq!(listed.collect::<Vec<_>>(), ["0x8a00", "0x0190", "0x03f0", "0x0280"], "{summary}");
}

/// A port with direction and size.
type Row = (String, String, String);

/// First accesses in their order: what was accessed, and the address of the instruction.
fn firsts(tables: &Tables) -> Vec<(Row, String)> {
    let by_rank: BTreeMap<_, _> = tables
        .ports
        .iter()
        .filter_map(|row| {
            let first = row.first.as_ref()?;
            assert!(!first.hypercall);
            let what = (row.port.to_string(), row.dir.to_string(), row.size.to_string());
            Some((first.rank, (what, first.pc.clone().unwrap())))
        })
        .collect();
    assert!(by_rank.keys().copied().eq(1..=by_rank.len() as u64), "{by_rank:?}");
    by_rank.into_values().collect()
}

fn logged_firsts(log: &str) -> Vec<(Row, String)> {
    let mut seen = BTreeSet::new();
    let lines = log.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_time, _vcpu, pc, dir, port, size, value, ..] = words[..] else { panic!("{line}") };
        let what = (port.to_owned(), dir.to_owned(), size.to_owned());
        let is_first = !value.ends_with('?') && seen.insert(what.clone());
        is_first.then(|| (what, pc.to_owned()))
    });
    lines.collect()
}

/// Runs a machine with an access log, by `run`, which gives the tables.
fn assert_as_logged(machine: Machine, run: impl FnOnce(Machine) -> Tables) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let option = format!("access-log={}", path.display());
    let tables = run(machine.plugin(&["summary=off", "symbols=off", &option]));
    let expected = logged_firsts(&std::fs::read_to_string(path).unwrap());
    assert!(expected.len() > 20, "{expected:?}");
    assert_eq!(firsts(&tables), expected);
}

/// Some of its first accesses fault, so that they are none.
fn the_forms_guest_begins_as_its_log_says(host: &Host) {
    assert_as_logged(host.machine(), |machine| run_guest(machine, "forms").stats().tables.clone());
}

fn seabios_begins_as_its_log_says(host: &Host) {
    assert_as_logged(host.machine(), |machine| {
        run_seabios(machine).stats().unwrap().tables.clone()
    });
}

fn linux_begins_as_its_log_says(host: &Host) {
    let linux = LinuxGuest::new("cat /proc/ioports", &[]).unwrap();
    assert_as_logged(linux.on(host.machine()), |machine| {
        machine.run().unwrap().stats().unwrap().tables.clone()
    });
}

/// The guest accesses ports by calls from its mailbox, or by instructions if no call is answered.
fn a_call_is_the_first_access(host: &Host) {
    for (options, calls) in [(&[][..], true), (&["hypercall=off"], false)] {
        let latch = ["summary=off", "device=latch@0x5000"];
        let run = run_guest(host.machine().plugin(&latch).plugin(options), "mailbox-16");
        let mut by_call = 0;
        for row in &run.stats().ports {
            let first = row.first.as_ref().unwrap_or_else(|| panic!("{row:?}"));
            assert_eq!(first.pc.is_none(), first.hypercall, "{row:?}");
            match (row.device + row.qemu, row.hypercall) {
                (0, _) => assert!(first.hypercall, "{row:?}"),
                (_, 0) => assert!(!first.hypercall, "{row:?}"),
                _ => {}
            }
            by_call += usize::from(first.hypercall);
        }
        assert_eq!(by_call > 0, calls);
    }
}
