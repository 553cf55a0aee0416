//! Calls that access memory, on a QEMU that exports none of its functions: they reach only proven RAM, never a device.

use pvio_tests::{GuestRun, GuestTest, Host};

/// The end of a guest, with what its calls did.
struct Proven {
    run: GuestRun,
    /// The reads and writes of devices' memory and ports that QEMU traced.
    trace: String,
    /// The guest's log.
    log: String,
}

impl Proven {
    fn reads_of(&self, device: &str) -> usize {
        let reads = self.trace.lines().filter(|line| line.starts_with("memory_region_ops_read"));
        reads.filter(|line| line.contains(device)).count()
    }
}

fn run(host: &Host, name: &str, arguments: &[&str]) -> Proven {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let machine = host.machine().plugin(&["summary=off", &format!("log={}", path("log"))]).args([
        "-trace",
        "memory_region_ops_*",
        "-D",
        &path("trace"),
    ]);
    let run = GuestTest::new(machine, name).args(arguments).run();
    let read = |name| std::fs::read_to_string(path(name)).unwrap();
    Proven { run, trace: read("trace"), log: read("log") }
}

fn proven(host: &Host, bits: u32) {
    let proven = run(host, &format!("calls-proof{bits}"), &[]);
    // QEMU itself writes to the APIC at a reset; only calls could read it.
    assert!(proven.trace.contains("memory_region_ops_write"), "nothing was traced");
    assert_eq!(proven.reads_of("apic"), 0, "{}", proven.trace);
    let (lines, declined) = if bits == 32 { (2, 4) } else { (0, 1) };
    let log = &proven.log;
    assert_eq!(log.lines().filter(|line| line.ends_with("] info: page")).count(), lines);
    assert_eq!(log.lines().count(), lines);
    let stats = proven.run.stats();
    let row = stats.hypercalls.iter().find(|row| row.call.name() == "log").unwrap();
    assert_eq!((row.count, row.declined), (lines as u64 + declined, declined));
    let windows: Vec<&str> = stats.windows.iter().map(|window| window.name.as_str()).collect();
    assert_eq!(windows, ["page"; 1][..lines.min(1)]);
}

/// A buffer and a page table under a device's memory, which hides RAM that was proven: by ports, and on q35 by a store.
fn remapped(host: &Host) {
    for (machine, lines) in [("pc", 4), ("q35", 6)] {
        let arguments = ["-machine", machine, "-device", "pci-testdev"];
        let proven = run(host, "calls-remapped32", &arguments);
        assert!(proven.trace.contains("pci-conf-data"), "nothing was traced");
        assert_eq!(proven.reads_of("pci-testdev"), 0, "{}", proven.trace);
        let pages = proven.log.lines().filter(|line| line.ends_with("] info: page"));
        assert_eq!(pages.count(), lines, "{machine}: {}", proven.log);
    }
}

fn two_vcpus(host: &Host) {
    let proven = run(host, "calls-proof-smp32", &["-smp", "2"]);
    assert!(proven.log.lines().count() >= 2, "{}", proven.log);
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
fn device_that_hides_proven_ram_is_not_accessed() {
    remapped(&Host::NEWEST.without_exports());
}

#[test]
fn nothing_is_proven_while_another_vcpu_runs() {
    two_vcpus(&Host::NEWEST.without_exports());
}

#[test]
#[ignore = "runs in qemu-scripts/test --long qemu-10.2"]
fn calls_read_and_write_proven_ram_on_api_5() {
    proven(&Host::PLAIN, 32);
    proven(&Host::PLAIN, 64);
    remapped(&Host::PLAIN);
    two_vcpus(&Host::PLAIN);
}
