//! What must not take the guest down, or pass unsaid.

use std::process::{Command, Stdio};

use pvio_scripts::{forms, places};
use pvio_tests::{Host, guest, on_both_qemus};

on_both_qemus! {
    a_closed_stderr_does_not_end_the_guest
}

fn a_closed_stderr_does_not_end_the_guest(host: &Host) {
    let plugin = places::plugin().unwrap();
    let qemu = |options: &str| {
        Command::new(host.program("qemu-system-x86_64"))
            .arg("-plugin")
            .arg(format!("{}{options}", plugin.display()))
            .args(["-machine", "pc", "-m", "64", "-display", "none", "-nodefaults", "-no-reboot"])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-bios"])
            .arg(guest("forms.bin"))
            .stderr(std::fs::File::options().write(true).open("/dev/full").unwrap())
            .stdout(Stdio::null())
            .status()
            .unwrap()
    };
    assert_eq!(qemu("").code(), Some(forms::PASSED));
    assert_eq!(qemu(",stats=/dev/full").code(), Some(forms::PASSED));
    assert_eq!(qemu(",no-such-option=1").code(), Some(1));
}

/// QEMU's qtest accelerator runs no vCPU, as KVM runs none under TCG, and needs no `/dev/kvm`. (Debian
/// builds it into the newer QEMU only.)
#[test]
fn an_accelerator_without_plugins_is_told() {
    let mut running = Host::NEWEST
        .machine()
        .plugin(&[])
        .args(["-machine", "pc,accel=qtest", "-display", "none", "-nodefaults"])
        .args(["-monitor", "stdio"])
        .start()
        .unwrap();
    running.wait_for("(qemu)").unwrap();
    running.say("quit").unwrap();
    let ended = running.wait().unwrap();
    assert!(ended.stderr.contains("ran no vCPU under TCG"), "{}", ended.stderr);
    assert!(ended.stats().unwrap().vcpus_omitted.is_some());
}
