//! The tables of a kernel that boots as in `qemu-scripts/boot-linux`.

use std::process::Command;
use std::time::Duration;

use pvio::stats::Snapshot;
use pvio::x86::{Direction, Mode, Port};
use pvio_cli::paths;
use pvio_tests::{Host, assert_consistent, boot_linux, boot_linux_with, on_both_qemus};

on_both_qemus! {
    tables_of_a_linux_boot_are_plausible
    a_guest_on_q35_with_ovmf_has_a_virtio_console_only
    a_microvm_boots_and_ends
}

/// The number of writes to a port that a device of QEMU's served.
fn written(stats: &Snapshot, port: u16) -> u64 {
    let rows = stats.ports.iter().filter(|row| row.port == Port(port) && row.dir == Direction::Out);
    rows.map(|row| row.qemu).sum()
}

fn tables_of_a_linux_boot_are_plausible(host: &Host) {
    let ended = boot_linux(host.machine().plugin(&[]));
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    assert_eq!(stats.ended, "shutdown");
    assert_eq!(stats.sites_dropped, 0);

    // No access of a boot faults or is unverified.
    assert!(stats.forms.iter().all(|row| row.faults.unwrap_or(0) == 0 && row.unverified == 0));
    assert!(stats.forms.iter().all(|row| row.attempts == row.executions));

    // Each character on the console was written to COM1's data register, and little else was:
    // the driver probes the chip and sets the divisor.
    let characters = ended.stdout.len() as u64;
    let com1 = written(stats, 0x3f8);
    assert!((characters..characters + 64).contains(&com1), "{com1} for {characters} characters");

    // The BIOS is 16 and 32-bit code, the kernel 64-bit.
    for mode in Mode::ALL {
        assert!(stats.sites.iter().any(|site| site.mode == Some(mode)), "{mode:?}");
    }
    assert!(stats.sites.iter().any(|site| site.pc.starts_with("0xffffffff")));
    assert!(written(stats, 0xcf8) > 100, "PCI is not enumerated");
    assert!(written(stats, 0x604) >= 1, "the machine is not powered off");
}

/// The machine of a confidential guest: port I/O is what firmware and kernel do anyway, not the console's.
fn a_guest_on_q35_with_ovmf_has_a_virtio_console_only(host: &Host) {
    let machine = host.machine().plugin(&[]).time_limit(Duration::from_secs(300));
    let options = ["--machine", "q35", "--firmware", "ovmf", "--console", "virtio"];
    let ended = boot_linux_with(machine, &options);
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    assert_eq!(stats.ended, "shutdown");
    assert!(ended.stdout.contains("Linux version "), "the console has no kernel messages");
    assert!(ended.stdout.contains("EFI v2."), "UEFI did not start the kernel");
    // The driver of COM1 looks for a chip, and finds none.
    assert!(written(stats, 0x3f8) < 16, "{}", written(stats, 0x3f8));
}

fn a_microvm_boots_and_ends(host: &Host) {
    let ended = boot_linux_with(host.machine().plugin(&[]), &["--machine", "microvm"]);
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    assert_eq!(stats.ended, "reset");
    let pci = stats.ports.iter().filter(|row| row.port == Port(0xcfc) && row.dir == Direction::In);
    assert!(pci.map(|row| row.qemu).sum::<u64>() < 16, "a microvm has no PCI");
}

#[test]
fn machines_that_cannot_boot_are_refused_in_a_line() {
    for (arguments, wrong) in [
        (&["--machine", "isapc"][..], "--machine isapc: boot-linux does not know this machine"),
        (&["--firmware=coreboot"], "--firmware coreboot: boot-linux does not know this firmware"),
        (&["--console", "vga"], "--console vga: boot-linux does not know this console"),
        (&["--machine", "microvm", "--firmware", "ovmf"], "use --machine pc or q35"),
        (&["--machine", "microvm", "--console", "virtio"], "use --machine pc or q35"),
        (&["--arch", "i386", "--firmware", "ovmf"], "use --arch amd64"),
        (&["--arch", "i386", "--console", "virtio"], "use --arch amd64"),
        (&["--console"], "--console needs a console"),
    ] {
        let script = paths::repository().join("qemu-scripts/boot-linux");
        let output = Command::new(script).args(arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        assert!(stderr.contains(wrong) && stderr.lines().count() == 1, "{arguments:?}: {stderr}");
    }
}
