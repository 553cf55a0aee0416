//! Hypervisors on each of four vCPUs (`tests/guests/svm-smp.S`).
//!
//! An access that they intercept is an exit: neither an execution nor a fault. Other ends of an access
//! are in `around_io.rs`.

use pvio::stats::Snapshot;
use pvio::x86::PortForm;
use pvio_cli::machine::Machine;
use pvio_tests::{Host, on_both_qemus, run_guest, without_modules};

on_both_qemus! {
    intercepted_accesses_of_four_vcpus_are_exits
    four_hypervisors_on_one_thread_keep_the_totals
    intercepted_access_is_not_in_the_access_log
    possible_exits_are_unverified_without_exports
}

without_modules! {
    possible_exits_are_unverified_without_exports
    ; needs "the state of nested guests":
    intercepted_accesses_of_four_vcpus_are_exits
    four_hypervisors_on_one_thread_keep_the_totals
    intercepted_access_is_not_in_the_access_log
}

const VCPUS: u64 = 4;
const ROUNDS: u64 = 30_000;

fn run_hypervisors(machine: Machine) -> Snapshot {
    let machine = machine.plugin(&["summary=off"]);
    let machine = machine.args(["-cpu", "max,+svm", "-smp", &VCPUS.to_string()]);
    run_guest(machine, "svm-smp").stats().clone()
}

fn assert_exact(stats: &Snapshot) {
    for row in &stats.forms {
        let (executions, exits) = match row.form {
            PortForm::OutDxAl => (ROUNDS * VCPUS, ROUNDS * VCPUS),
            PortForm::InAlDx => (2, 0),
            PortForm::OutDxAx | PortForm::OutImmAl => (1, 0),
            _ => (0, 0),
        };
        let counted = (row.attempts, row.executions, row.accesses, row.exits, row.unverified);
        let expected = (executions + exits, executions, executions, Some(exits), 0);
        assert_eq!(counted, expected, "{}", row.form);
    }
    let ports: Vec<_> = stats.ports.iter().map(|row| (row.port.0, row.qemu)).collect();
    assert_eq!(ports, [(0xf4, 1), (0x510, 1), (0x511, 2), (0x5010, ROUNDS * VCPUS)]);
}

fn intercepted_accesses_of_four_vcpus_are_exits(host: &Host) {
    let stats = run_hypervisors(host.machine().args(["-accel", "tcg,thread=multi"]));
    assert_exact(&stats);
    // The boot CPU also accesses fw_cfg and the exit.
    let mut executions: Vec<u64> = stats.vcpus.iter().map(|row| row.executions).collect();
    executions.sort_unstable();
    assert_eq!(executions, [ROUNDS, ROUNDS, ROUNDS, ROUNDS + 4]);
}

/// On one thread QEMU may switch vCPUs between an access and its exit.
fn four_hypervisors_on_one_thread_keep_the_totals(host: &Host) {
    let stats = run_hypervisors(host.machine().args(["-accel", "tcg,thread=single"]));
    assert_exact(&stats);
    assert!(stats.vcpus.is_empty() && stats.vcpus_omitted.is_some());
}

fn intercepted_access_is_not_in_the_access_log(host: &Host) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = format!("access-log={}:0x5000-0x50ff", path.display());
    assert_exact(&run_hypervisors(
        host.machine().plugin(&[&log]).args(["-accel", "tcg,thread=multi"]),
    ));
    let text = std::fs::read_to_string(path).unwrap();
    let (mut lines, mut last) = (0, 0.0);
    for line in text.lines().skip(1).filter(|line| line.split_whitespace().nth(1) == Some("0")) {
        let time: f64 = line.split_whitespace().next().unwrap().parse().unwrap();
        assert!(time >= last && line.contains(" out 0x5010 1 "), "{line}");
        (lines, last) = (lines + 1, time);
    }
    assert_eq!(lines, ROUNDS);
    assert_eq!(text.lines().count() as u64, 1 + ROUNDS * VCPUS);
}

fn possible_exits_are_unverified_without_exports(host: &Host) {
    let machine = host.machine_without_exports();
    let stats = run_hypervisors(machine.args(["-accel", "tcg,thread=multi"]));
    let row = &stats.forms[PortForm::OutDxAl.index()];
    assert_eq!(row.exits, None);
    // Each guest's last access is followed by an exit, too: `vmmcall`.
    let open = (ROUNDS + 1) * VCPUS;
    let executions = (ROUNDS - 1) * VCPUS;
    assert_eq!((row.attempts, row.executions), (2 * ROUNDS * VCPUS, executions));
    assert_eq!((row.accesses, row.unverified), (executions, open));
}
