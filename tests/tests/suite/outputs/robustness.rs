//! With a full stderr or too many sites, the guest continues and memory stays bounded.

use std::process::Stdio;

use pvio::stats::MAX_SITES;
use pvio::x86::PortForm;
use pvio_cli::expected_forms;
use pvio_cli::machine::{Ended, Machine};
use pvio_tests::{Host, assert_consistent, guest, on_both_qemus};

on_both_qemus! {
    full_stderr_does_not_end_the_guest
    sites_beyond_the_limit_are_counted_in_bounded_memory
}

fn full_stderr_does_not_end_the_guest(host: &Host) {
    let qemu = |options: &str| {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = host.bare_guest_command(options, "forms");
        command.stderr(full).stdout(Stdio::null()).status().unwrap()
    };
    assert_eq!(qemu("summary=on").code(), Some(expected_forms::PASSED));
    assert_eq!(qemu("stats=/dev/full").code(), Some(expected_forms::PASSED));
    assert_eq!(qemu("no-such-option=1").code(), Some(1));
}

/// Runs a guest that writes its own port instructions.
///
/// QEMU's translation cache has 1 MiB, so it drops translations all the time.
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

fn sites_beyond_the_limit_are_counted_in_bounded_memory(host: &Host) {
    // A million sites take long, so only one QEMU runs so many.
    let sites = if host.api == Host::NEWEST.api { 1 << 20 } else { 1 << 17 };
    // QEMU's own memory does not depend on the number of sites.
    let plain = make_sites(host.machine(), 1 << 15).memory;
    let ended = make_sites(host.machine().plugin(&["summary=off"]), sites);

    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    let row = &stats.forms[PortForm::OutDxAl.index()];
    assert_eq!((row.attempts, row.executions, row.accesses), (sites, sites, sites));
    // The site of the exit is dropped as well: it is the last.
    let dropped = sites + 1 - MAX_SITES as u64;
    assert_eq!(stats.sites.len(), MAX_SITES);
    assert_eq!(stats.sites_dropped_counts.executions, dropped);
    // A site whose translation is dropped before it runs is translated and counted again.
    assert!((dropped..dropped + dropped / 10).contains(&stats.sites_dropped), "{dropped}");

    // 75 MiB were seen, 25 of them while the dump was written.
    let taken = ended.memory.saturating_sub(plain) >> 20;
    assert!(taken < 96, "{taken} MiB");
}
