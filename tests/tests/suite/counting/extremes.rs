//! Every port in every size, and a day of a guest's time.

use pvio::stats::Snapshot;
use pvio::x86::{Port, PortForm};
use pvio_cli::expected_forms::PASSED;
use pvio_cli::machine::Ended;
use pvio_tests::{Host, assert_consistent, guest, on_both_qemus};

on_both_qemus! {
    every_port_in_every_size_has_a_row
    long_run_is_counted_without_drift_or_growth
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

fn ticks(host: &Host, ticks: u64) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    let trace = format!("trace={}", directory.path().join("trace").display());
    let machine = host.machine().plugin(&["summary=off", "values=0x5000", &trace]);
    let ended = machine
        .bare_guest(&guest("day.bin"))
        .args(["-icount", "shift=3,sleep=off"])
        .args(["-device", &format!("loader,addr=0x600,data={ticks},data-len=4")])
        .time_limit(std::time::Duration::from_secs(1200))
        .run()
        .unwrap();
    assert_eq!(ended.status.code(), Some(PASSED), "{}", ended.stderr);
    ended
}

/// Nanoseconds of the guest's clock from the first access to the last.
fn elapsed(stats: &Snapshot) -> u64 {
    assert_eq!(stats.values_clock.as_deref(), Some("guest"));
    let rows: Vec<_> = stats.values.iter().filter(|row| row.port == Port(0x5000)).collect();
    let first = rows.iter().map(|row| row.first.as_ref().unwrap().time_ns).min().unwrap();
    let last = rows.iter().map(|row| row.last.as_ref().unwrap().time_ns).max().unwrap();
    last - first
}

/// Half an hour in the suite, a day in a long part.
fn long_run_is_counted_without_drift_or_growth(host: &Host) {
    let is_long = std::env::var_os("PVIO_TEST_LONG").is_some();
    let count = if is_long { DAY } else { DAY / 48 };
    let (short, long) = (ticks(host, count / 16), ticks(host, count));
    let stats = long.stats().unwrap();
    assert_consistent(stats);
    assert_eq!(stats.forms[PortForm::OutDxAl.index()].accesses, count);
    // 65,536 periods of the timer are 54,925.4 µs.
    let expected = (count - 1) as f64 * 65_536.0 / 1_193_182.0 * 1e9;
    let drift = elapsed(stats) as f64 / expected - 1.0;
    assert!(drift.abs() < 1e-4, "{drift}");
    let grown = long.memory.saturating_sub(short.memory) >> 20;
    assert!(grown < 16, "{grown} MiB");
    println!("{count} ticks: drift {drift:e}, {grown} MiB more than a sixteenth of them");
}
