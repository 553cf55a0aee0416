//! A Linux process that makes port I/O by hypercalls (`tests/guests/linux/shim.c`).

use std::collections::BTreeMap;

use pvio::stats::Snapshot;
use pvio_cli::machine::Machine;
use pvio_tests::{Host, LinuxGuest, assert_consistent, guest};

use super::hypercalls;

/// Runs the program under Linux. Fails unless it ends with this status.
fn run_linux(machine: Machine, options: &[&str], status: u8) -> Snapshot {
    let program = std::fs::read(guest("shim")).unwrap();
    let linux = LinuxGuest::new("/shim; echo \"shim: status $?\"", &[("shim", &program)]).unwrap();
    let machine = machine.plugin(&["device=latch@0x300"]).plugin(options);
    let ended = linux.on(machine).run().unwrap();
    assert!(ended.stdout.contains(&format!("shim: status {status}\r\n")), "{}", ended.stdout);
    let stats = ended.stats().unwrap().clone();
    assert_consistent(&stats);
    stats
}

#[test]
fn process_may_call_with_hypercall_any() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let options = ["hypercall=any", &format!("log={}", log.display())];
    let stats = run_linux(Host::NEWEST.machine(), &options, 0);
    assert!(std::fs::read_to_string(&log).unwrap().ends_with("] info: hello from a process\n"));

    // The number of calls depends on page faults. The number of bytes does not.
    let moved = hypercalls(&stats).into_iter().filter(|(_, (_, bytes, _))| *bytes != 0);
    let moved: BTreeMap<_, _> = moved.map(|(call, (_, bytes, _))| (call, bytes)).collect();
    let expected = [
        ("inb", 2),
        ("inw", 2),
        ("inl", 8),
        ("outw", 2),
        ("outl", 4),
        ("insb", 2 * 4096 + 16),
        ("insl", 8),
        ("outsb", 3 * 4096),
        ("log", 20),
    ];
    assert_eq!(moved, BTreeMap::from(expected));
    assert!(hypercalls(&stats)["insb"].0 > 1, "no call stopped at an untouched page");
    let latch = stats.ports.iter().filter(|row| (0x300..0x304).contains(&row.port.0));
    let latch: Vec<_> = latch.map(|row| (row.device, row.qemu, row.unverified)).collect();
    assert!(latch.iter().all(|&row| row == (0, 0, 0)), "{latch:?}");
}

/// Linux uses protection keys if the CPU has them. They permit the access here.
#[test]
fn process_with_protection_keys_may_call() {
    let stats = run_linux(Host::NEWEST.machine().args(["-cpu", "max"]), &["hypercall=any"], 0);
    let calls = hypercalls(&stats);
    assert_eq!((calls["insb"].1, calls["outsb"].1), (2 * 4096 + 16, 3 * 4096));
    assert_eq!(calls["log"].1, 20);
}

/// With several vCPUs on one thread, the plugin cannot read the register of the protection keys.
///
/// It then declines strings, and the process makes one call for each element.
#[test]
fn strings_become_scalars_if_protection_keys_are_unknown() {
    let machine = Host::NEWEST.machine().args(["-cpu", "max", "-smp", "2"]);
    let machine = machine.args(["-accel", "tcg,thread=single"]);
    let stats = run_linux(machine, &["hypercall=any"], 4);
    let calls = hypercalls(&stats);
    let (_, insb, _) = calls["insb"];
    let (_, outsb, _) = calls["outsb"];
    assert_eq!((insb, outsb), (0, 0));
    assert_eq!(calls["inb"].1, 2 + 2 * 4096 + 16);
    assert_eq!(calls["outb"].1, 3 * 4096);
    // The shim tries each string call, touches the page, and tries again.
    assert_eq!(calls["insb"].0, 2 * (2 * 4096 + 16));
}

#[test]
fn process_is_denied_with_hypercall_kernel() {
    let stats = run_linux(Host::NEWEST.machine(), &["hypercall=kernel"], 3);
    let calls: Vec<_> = stats.hypercalls.iter().collect();
    let [probe] = calls[..] else { panic!("{calls:?}") };
    assert_eq!((probe.call.name(), probe.count, probe.denied), ("probe", 1, 1));
    assert!(stats.ports.iter().all(|row| row.hypercall == 0));
}

#[test]
fn process_learns_that_calls_are_unanswered() {
    assert!(run_linux(Host::STABLE.machine(), &[], 2).hypercalls.is_empty());
}
