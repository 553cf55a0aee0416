//! A restored or migrated machine has no mailbox (`tests/guests/calls/mailbox-saved.c`).
//!
//! The guest notices, and registers again.

use std::path::Path;

use pvio_cli::expected_forms;
use pvio_cli::machine::{Ended, Machine};
use pvio_tests::{
    Host, Monitor, assert_consistent, guest, on_both_qemus, snapshot_drive, wait_until,
    without_modules,
};

on_both_qemus! {
    restored_machine_has_no_mailbox
    migrated_machine_has_no_mailbox
}

without_modules! {
    ; needs "the guest's memory":
    restored_machine_has_no_mailbox
    migrated_machine_has_no_mailbox
}

/// A byte of QEMU's `pc-testdev`, which the guest reads through its mailbox while it is answered.
const LATCH: u16 = 0xe8;

fn machine(host: &Host, bits: u32, console: &Path) -> Machine {
    host.machine()
        .plugin(&["summary=off"])
        .bare_guest(&guest(&format!("calls-mailbox-saved{bits}.bin")))
        .args(["-device", "pc-testdev", "-debugcon", &format!("file:{}", console.display())])
}

/// Waits until the debug console ends with a text.
fn wait_for_text(console: &Path, text: &str) {
    let said = || std::fs::read_to_string(console).unwrap();
    wait_until(|| said().ends_with(text), || format!("no {text:?}: {}", said()));
}

fn assert_passed(ended: &Ended, console: &Path, last: &str) {
    let said = std::fs::read_to_string(console).unwrap();
    assert_eq!(ended.status.code(), Some(expected_forms::PASSED), "{said}{}", ended.stderr);
    assert!(said.ends_with(last), "{said}");
    assert_consistent(ended.stats().unwrap());
}

/// Runs the guest until it has read a number through its mailbox.
fn run_until_heard(machine: Machine, console: &Path) -> Monitor {
    let mut monitor = Monitor::start(machine);
    monitor.write(LATCH, 1, 1);
    wait_for_text(console, "heard 1\n");
    monitor
}

fn restored_machine_has_no_mailbox(host: &Host) {
    for bits in [32, 64] {
        let directory = tempfile::tempdir().unwrap();
        let console = directory.path().join("console");
        let drive = snapshot_drive(directory.path());
        let machine = machine(host, bits, &console).args(["-drive", &drive]);
        let mut monitor = run_until_heard(machine, &console);
        monitor.add_overlay(directory.path());
        assert_eq!(monitor.ask("savevm state"), "");
        // Saving does not affect the running machine.
        monitor.write(LATCH, 1, 2);
        wait_for_text(&console, "heard 2\n");
        // The guest ends QEMU.
        assert_passed(&monitor.ask_last("loadvm state"), &console, "heard 2\nunheard after 1\n");
    }
}

fn migrated_machine_has_no_mailbox(host: &Host) {
    for bits in [32, 64] {
        let directory = tempfile::tempdir().unwrap();
        let [console, there, saved] =
            ["said", "there", "saved"].map(|name| directory.path().join(name));
        let mut monitor = run_until_heard(machine(host, bits, &console), &console);
        monitor.migrate(&saved).unwrap();
        assert!(monitor.quit().status.success());
        let incoming = ["-incoming", &format!("file:{}", saved.display())];
        let ended = machine(host, bits, &there).args(incoming).run().unwrap();
        assert_passed(&ended, &there, "unheard after 1\n");
    }
}
