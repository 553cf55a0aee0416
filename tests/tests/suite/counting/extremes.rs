//! Every port in every size, and a day of a guest's time.

use std::time::Duration;

use pvio::x86::PortForm;
use pvio_cli::machine::Ended;
use pvio_tests::{Host, assert_consistent, guest, on_both_qemus};

on_both_qemus! {
    every_port_in_every_size_has_a_row
    long_run_is_counted_exactly_in_bounded_memory
}

fn every_port_in_every_size_has_a_row(host: &Host) {
    let machine = host.machine().plugin(&["summary=off", "device=null@0-0xffff"]);
    let ended = machine.bare_guest(&guest("all-ports.bin")).run().unwrap();
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    assert_eq!(stats.ended, "reset", "{}", ended.stderr);
    for form in [
        PortForm::InAlDx,
        PortForm::InAxDx,
        PortForm::InEaxDx,
        PortForm::OutDxAl,
        PortForm::OutDxAx,
        PortForm::OutDxEax,
    ] {
        let row = &stats.forms[form.index()];
        assert_eq!((row.executions, row.accesses), (65_536, 65_536), "{}", form.name());
    }
    assert_eq!(stats.ports.len(), 6 * 65_536);
    assert!(stats.ports.iter().all(|row| row.device + row.qemu == 1));
    // The device has all ports, also those that an access at the last of them goes beyond.
    assert_eq!(stats.ports.iter().map(|row| row.device).sum::<u64>(), 6 * 65_536);

    let plain = host.machine().plugin(&["summary=off"]).bare_guest(&guest("poweroff.bin"));
    let taken = ended.memory.saturating_sub(plain.run().unwrap().memory) >> 20;
    assert!(taken < 256, "{taken} MiB");
}

/// The ticks of the timer in a day: 1,193,182 Hz by 65,536.
const DAY: u64 = 1_573_042;

/// QEMU's translation cache has 1 MiB: with `-icount` it translates port instructions again and again.
///
/// Returns the resident memory after the last tick, in bytes, too.
fn ticks(host: &Host, ticks: u64) -> (Ended, u64) {
    let directory = tempfile::tempdir().unwrap();
    let trace = format!("trace={}", directory.path().join("trace").display());
    let machine = host.machine().plugin(&["summary=off", "values=0x5000", &trace]);
    let mut running = machine
        .bare_guest(&guest("day.bin"))
        .args(["-icount", "shift=3,sleep=off", "-accel", "tcg,tb-size=1", "-debugcon", "stdio"])
        .args(["-device", &format!("loader,addr=0x600,data={ticks},data-len=4")])
        .time_limit(Duration::from_secs(1200))
        .start()
        .unwrap();
    running.wait_for("!\n").unwrap();
    let memory = running.resident().unwrap();
    running.signal(libc::SIGTERM).unwrap();
    let ended = running.wait().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    (ended, memory)
}

/// Half an hour in the suite, a day in a long part.
fn long_run_is_counted_exactly_in_bounded_memory(host: &Host) {
    let is_long = std::env::var_os("PVIO_TEST_LONG").is_some();
    let count = if is_long { DAY } else { DAY / 48 };
    let ((_, short), (ended, long)) = (ticks(host, count / 16), ticks(host, count));
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    assert_eq!(stats.forms[PortForm::OutDxAl.index()].accesses, count);
    assert_eq!(stats.values.iter().map(|row| row.counts.accesses).sum::<u64>(), count);
    let grown = long.saturating_sub(short) >> 20;
    assert!(grown < 16, "{grown} MiB");
    println!("{count} ticks need {grown} MiB more than a sixteenth of them");
}
