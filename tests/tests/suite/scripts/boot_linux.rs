//! The tables of a kernel that boots as in `qemu-scripts/boot-linux`.

use pvio::stats::Snapshot;
use pvio::x86::{Direction, Mode, Port};
use pvio_tests::{Host, assert_consistent, boot_linux, on_both_qemus};

on_both_qemus! {
    tables_of_a_linux_boot_are_plausible
}

/// The number of writes to a port.
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
