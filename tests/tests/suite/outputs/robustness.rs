//! What must not take the guest down, or pass unsaid.

use std::process::{Command, Stdio};

use pvio::stats::MAX_SITES;
use pvio::x86::PortForm;
use pvio_cli::machine::{Ended, Machine};
use pvio_cli::{expected_forms, paths};
use pvio_tests::{Host, assert_consistent, guest, on_both_qemus};

on_both_qemus! {
    a_closed_stderr_does_not_end_the_guest
    more_sites_than_there_is_room_for_take_bounded_memory
}

fn a_closed_stderr_does_not_end_the_guest(host: &Host) {
    let plugin = paths::plugin().unwrap();
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
    assert_eq!(qemu("").code(), Some(expected_forms::PASSED));
    assert_eq!(qemu(",stats=/dev/full").code(), Some(expected_forms::PASSED));
    assert_eq!(qemu(",no-such-option=1").code(), Some(1));
}

/// A guest that makes its own port instructions, in a QEMU that has to throw translations away all the
/// time: its cache has 1 MiB.
fn make_sites(machine: Machine, sites: u64) -> Ended {
    let ended = machine
        .bare_guest(&guest("many-sites.bin"))
        .args(["-accel", "tcg,tb-size=1"])
        .args(["-device", &format!("loader,addr=0x600,data={sites},data-len=4")])
        .run()
        .unwrap();
    assert_eq!(ended.status.code(), Some(expected_forms::PASSED), "{}", ended.stderr);
    ended
}

fn more_sites_than_there_is_room_for_take_bounded_memory(host: &Host) {
    // A million takes a while: once is enough.
    let sites = if host.api == Host::NEWEST.api { 1 << 20 } else { 1 << 17 };
    // What QEMU itself takes does not depend on how many there are.
    let plain = make_sites(host.machine(), 1 << 15).memory;
    let ended = make_sites(host.machine().plugin(&["summary=off"]), sites);

    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    let row = &stats.forms[PortForm::OutDxAl.index()];
    assert_eq!((row.attempts, row.executions, row.accesses), (sites, sites, sites));
    // The last, the exit, has no row either.
    let dropped = sites + 1 - MAX_SITES as u64;
    assert_eq!(stats.sites.len(), MAX_SITES);
    assert_eq!(stats.sites_dropped_counts.executions, dropped);
    // One that was thrown away before it ran is translated again, and counts again.
    assert!((dropped..dropped + dropped / 10).contains(&stats.sites_dropped), "{dropped}");

    // The rows take 10 MiB and 2 MiB for the vCPU. As many again, and as much as the JSON, which is
    // 14 MiB, when the dump is made; the library, and what callbacks add to QEMU's translations.
    let taken = ended.memory.saturating_sub(plain) >> 20;
    assert!(taken < 64, "{taken} MiB");
}
