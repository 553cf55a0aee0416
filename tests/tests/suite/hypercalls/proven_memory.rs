//! Calls that access memory, on a QEMU that exports none of its functions: they reach only proven RAM, never a device.

use pvio_tests::{GuestTest, Host};

fn proven(host: &Host, bits: u32) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let machine = host.machine().plugin(&["summary=off", &format!("log={}", path("log"))]).args([
        "-trace",
        "memory_region_ops_*",
        "-D",
        &path("trace"),
    ]);
    let run = GuestTest::new(machine, &format!("calls-proof{bits}")).run();
    let trace = std::fs::read_to_string(path("trace")).unwrap();
    // QEMU itself writes to the APIC at a reset; only calls could read it.
    assert!(trace.contains("memory_region_ops_write"), "nothing was traced");
    let reads = trace.lines().filter(|line| line.starts_with("memory_region_ops_read"));
    assert_eq!(reads.filter(|line| line.contains("apic")).count(), 0, "{trace}");
    let log = std::fs::read_to_string(path("log")).unwrap();
    let (lines, declined) = if bits == 32 { (2, 4) } else { (0, 1) };
    assert_eq!(log.lines().filter(|line| line.ends_with("] info: page")).count(), lines);
    assert_eq!(log.lines().count(), lines);
    let stats = run.stats();
    let row = stats.hypercalls.iter().find(|row| row.call.name() == "log").unwrap();
    assert_eq!((row.count, row.declined), (lines as u64 + declined, declined));
    let windows: Vec<&str> = stats.windows.iter().map(|window| window.name.as_str()).collect();
    assert_eq!(windows, ["page"; 1][..lines.min(1)]);
}

#[test]
fn calls_read_and_write_proven_ram_without_exports() {
    proven(&Host::NEWEST.without_exports(), 32);
}

#[test]
fn page_tables_that_nothing_proves_are_not_read() {
    proven(&Host::NEWEST.without_exports(), 64);
}

#[test]
#[ignore = "runs in qemu-scripts/test --long qemu-10.2"]
fn calls_read_and_write_proven_ram_on_api_5() {
    proven(&Host::PLAIN, 32);
    proven(&Host::PLAIN, 64);
}
