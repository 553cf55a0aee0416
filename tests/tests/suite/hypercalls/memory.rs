//! Hypercalls that read or write memory: guests of `tests/guests/calls` make them under page tables of every
//! kind, from every ring, with pages that are as they should be or not, and check after each call memory,
//! registers, devices and the tables themselves. What was written to the stream is checked here.

use pvio_tests::{GuestRun, GuestTest, Host};
use tempfile::TempDir;

use super::{STREAM_SIZE, stream_sequence};

/// A guest that has passed, and the files that it left.
struct Passed {
    run: GuestRun,
    directory: TempDir,
}

impl Passed {
    /// What is in a file that QEMU has written.
    fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.directory.path().join(name)).unwrap()
    }
}

/// Boots a guest with a stream and a latch; it must pass.
fn run_with_stream(name: &str) -> Passed {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("in"), stream_sequence(STREAM_SIZE)).unwrap();
    let stream = format!("device=stream@0x300:in={}:out={}", path("in"), path("out"));
    let machine = Host::NEWEST
        .machine()
        .plugin(&["summary=off", "hypercall=any", "device=latch@0x5000", &stream])
        .plugin(&[&format!("log={}", path("log"))]);
    let run = GuestTest::new(machine, &format!("calls-{name}"))
        // Pages of 1 GiB need some memory to lie in; little of it is used.
        .args(["-object", "memory-backend-ram,id=ram,size=2G,reserve=off", "-m", "2G"])
        .args(["-machine", "memory-backend=ram", "-cpu", "max", "-device", "VGA,romfile="])
        .run();
    let passed = Passed { run, directory };
    // The stream has been given each element once, in order.
    let written = passed.file("out");
    assert_eq!(written.len() as u64, passed.run.number("given"), "{name}");
    assert!(written == stream_sequence(written.len() as u32), "{name}: other bytes than it wrote");
    passed
}

/// Each byte that a guest knows of is counted, and no other.
fn assert_bytes(passed: &Passed) {
    let stats = passed.run.stats();
    let moved = stats.hypercalls.iter().filter(|row| row.call.port_io().is_some());
    let known = ["given", "taken", "latched"].map(|name| passed.run.number(name));
    assert_eq!(moved.map(|row| row.bytes).sum::<u64>(), known.iter().sum::<u64>());
}

fn pages(bits: u32) {
    let passed = run_with_stream(&format!("pages{bits}"));
    assert_eq!(
        passed.run.number("kinds"),
        6,
        "this QEMU lacks a kind of paging: {}",
        passed.run.text()
    );
    assert_bytes(&passed);
}

/// No paging; 32-bit paging, without PSE and with pages of 4 KiB and 4 MiB; PAE with 4 KiB and 2 MiB.
#[test]
fn strings_through_32_bit_page_tables() {
    pages(32);
}

/// Four and five levels, with pages of 4 KiB, 2 MiB and 1 GiB.
#[test]
fn strings_through_64_bit_page_tables() {
    pages(64);
}

/// SMAP and protection keys, callers in other rings and modes, instructions of other modes.
#[test]
fn rights_of_callers() {
    let narrow = run_with_stream("rights32").run.text();
    let wide = run_with_stream("rights64").run.text();
    let said = |text: &str, line: &str| text.lines().filter(|&l| l == line).count();
    assert_eq!((said(&narrow, "SMAP 2"), said(&narrow, "SMAP 3")), (2, 1), "{narrow}");
    for line in ["SMAP", "user keys", "supervisor keys"] {
        for levels in [4, 5] {
            let line = format!("{line} {levels}");
            assert_eq!(said(&wide, &line), 1, "this QEMU lacks {line}: {wide}");
        }
    }
}

/// What a guest of `calls/addresses.c` logs, all of it the same line.
const LINE: &str = "a line of the guest's, which is in ROM";

#[test]
fn addresses_that_cannot_be_meant() {
    for bits in [32, 64] {
        let passed = run_with_stream(&format!("addresses{bits}"));
        assert_bytes(&passed);
        let log = String::from_utf8(passed.file("log")).unwrap();
        let lines = log.lines().filter(|line| line.ends_with(&format!("] info: {LINE}")));
        assert_eq!(lines.count() as u64, passed.run.number("lines"));
        assert_eq!(log.lines().count() as u64, passed.run.number("lines"));
        let windows = &passed.run.stats().windows;
        let entries: Vec<_> = windows.iter().map(|row| (row.name.as_str(), row.entries)).collect();
        assert_eq!(entries, [(LINE, passed.run.number("windows"))]);
    }
}

#[test]
fn batches_up_to_what_is_missing_or_wrong() {
    run_with_stream("batches32");
    run_with_stream("batches64");
}

/// A guest of the guest's has other memory, and other ports, than its addresses and numbers say here: the
/// hypervisor's must stay as they are.
#[test]
fn a_guest_of_the_guests_is_not_heard() {
    let passed = run_with_stream("nested64");
    let declined = passed.run.stats().hypercalls.iter().map(|row| row.declined);
    assert_eq!(declined.sum::<u64>(), passed.run.number("declined"));
}
