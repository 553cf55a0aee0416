//! Mailboxes and snapshots (`tests/guests/calls/mailbox-saved.c`): a machine that goes on from one, or behind a
//! migration, has none, notices by itself, and registers again.

use std::path::Path;

use pvio_cli::expected_forms;
use pvio_cli::machine::{Ended, Machine};
use pvio_tests::{Host, Monitor, assert_consistent, guest, on_both_qemus};

on_both_qemus! {
    a_snapshot_has_no_mailbox
    a_migrated_machine_has_no_mailbox
}

/// A byte of QEMU's `pc-testdev`, which the guest reads through its mailbox for as long as it is heard.
const LATCH: u16 = 0xe8;

fn machine(host: &Host, bits: u32, console: &Path) -> Machine {
    host.machine()
        .plugin(&["summary=off"])
        .bare_guest(&guest(&format!("calls-mailbox-saved{bits}.bin")))
        .args(["-device", "pc-testdev", "-debugcon", &format!("file:{}", console.display())])
}

/// Waits until the guest has said so.
fn wait_for(monitor: &mut Monitor, console: &Path, text: &str) {
    while !std::fs::read_to_string(console).unwrap().ends_with(text) {
        // The monitor answers for as long as QEMU runs, which has its time limit.
        assert!(monitor.ask("info status").contains("running"), "before it said {text:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn assert_passed(ended: &Ended, console: &Path, last: &str) {
    let said = std::fs::read_to_string(console).unwrap();
    assert_eq!(ended.status.code(), Some(expected_forms::PASSED), "{said}{}", ended.stderr);
    assert!(said.ends_with(last), "{said}");
    assert_consistent(ended.stats().unwrap());
}

/// Runs the guest until it has read a number.
fn run_until_heard(machine: Machine, console: &Path) -> Monitor {
    let mut monitor = Monitor::start(machine);
    monitor.write(LATCH, 1, 1);
    wait_for(&mut monitor, console, "heard 1\n");
    monitor
}

fn a_snapshot_has_no_mailbox(host: &Host) {
    for bits in [32, 64] {
        let directory = tempfile::tempdir().unwrap();
        let [console, raw, overlay] =
            ["said", "raw", "qcow2"].map(|name| directory.path().join(name));
        std::fs::File::create(&raw).unwrap().set_len(1 << 20).unwrap();
        let drive = format!("if=none,id=disk,format=raw,file={}", raw.display());
        let machine = machine(host, bits, &console).args(["-drive", &drive]);
        let mut monitor = run_until_heard(machine, &console);
        // A raw image has no room for a snapshot; the overlay that this puts over it has.
        let answer = monitor.ask(&format!("snapshot_blkdev disk {} qcow2", overlay.display()));
        assert!(!answer.contains("Error"), "{answer}");
        assert_eq!(monitor.ask("savevm state"), "");
        // To be saved changes nothing.
        monitor.write(LATCH, 1, 2);
        wait_for(&mut monitor, &console, "heard 2\n");
        // The guest ends QEMU.
        assert_passed(&monitor.last("loadvm state"), &console, "heard 2\nunheard after 1\n");
    }
}

fn a_migrated_machine_has_no_mailbox(host: &Host) {
    for bits in [32, 64] {
        let directory = tempfile::tempdir().unwrap();
        let [console, there, saved] =
            ["said", "there", "saved"].map(|name| directory.path().join(name));
        let mut monitor = run_until_heard(machine(host, bits, &console), &console);
        let answer = monitor.ask(&format!("migrate file:{}", saved.display()));
        assert!(!answer.contains("Error"), "{answer}");
        assert!(monitor.ask("info migrate").contains("completed"));
        assert!(monitor.quit().status.success());
        let incoming = ["-incoming", &format!("file:{}", saved.display())];
        let ended = machine(host, bits, &there).args(incoming).run().unwrap();
        assert_passed(&ended, &there, "unheard after 1\n");
    }
}
