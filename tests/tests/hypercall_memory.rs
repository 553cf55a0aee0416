//! Hypercalls that read or write memory: guests of `tests/guests/calls` make them under page tables of every
//! kind, from every ring, with pages that are as they should be or not, and check after each call memory,
//! registers, devices and the tables themselves. What was written to the stream is checked here.

use pvio_scripts::forms;
use pvio_scripts::machine::Ended;
use pvio_tests::{Host, assert_consistent, guest};
use tempfile::TempDir;

/// As in `calls/lib/strings.h`.
const STREAM_SIZE: u32 = 8 << 20;

/// What the stream gives, and is given.
fn sequence(size: u32) -> Vec<u8> {
    (0..size).map(|place| (place.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect()
}

/// A guest that has passed.
struct Passed {
    ended: Ended,
    said: String,
    directory: TempDir,
}

impl Passed {
    /// A number that the guest has told.
    fn told(&self, name: &str) -> u32 {
        let line = self.said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}: {}", self.said)).parse().unwrap()
    }
}

/// Boots a guest with a stream and a latch; it must pass.
fn run(name: &str, options: &[&str]) -> Passed {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("in"), sequence(STREAM_SIZE)).unwrap();
    let stream = format!("device=stream@0x300:in={}:out={}", path("in"), path("out"));
    let ended = Host::NEWEST
        .machine()
        .plugin(&["summary=off", "hypercall=any", "device=latch@0x5000", &stream])
        .plugin(options)
        .bare_guest(&guest(&format!("calls-{name}.bin")))
        // Pages of 1 GiB need some memory to lie in; little of it is used.
        .args(["-object", "memory-backend-ram,id=ram,size=2G,reserve=off", "-m", "2G"])
        .args(["-machine", "memory-backend=ram", "-cpu", "max"])
        .args(["-debugcon", &format!("file:{}", path("console"))])
        .run()
        .unwrap();
    let said = std::fs::read_to_string(path("console")).unwrap();
    assert_eq!(ended.status.code(), Some(forms::PASSED), "{name}: {said}{}", ended.stderr);
    assert_consistent(ended.stats().unwrap());
    Passed { ended, said, directory }
}

/// The stream has been given each element once, in order.
fn assert_given(passed: &Passed) {
    let written = std::fs::read(passed.directory.path().join("out")).unwrap();
    assert_eq!(written.len() as u32, passed.told("given"));
    assert!(written == sequence(written.len() as u32), "other bytes than the guest has written");
}

fn pages(bits: u32, kinds: u32) {
    let passed = run(&format!("pages{bits}"), &[]);
    assert_given(&passed);
    assert_eq!(passed.told("kinds"), kinds, "this QEMU lacks a kind of paging: {}", passed.said);
    // Each stream call's bytes are counted, and no others.
    let moved: u64 = passed.ended.stats().unwrap().hypercalls.iter().map(|row| row.bytes).sum();
    assert!(moved > u64::from(passed.told("given") + passed.told("taken")));
}

/// No paging; 32-bit paging, without PSE and with pages of 4 KiB and 4 MiB; PAE with 4 KiB and 2 MiB.
#[test]
fn strings_through_32_bit_page_tables() {
    pages(32, 6);
}

/// Four and five levels, with pages of 4 KiB, 2 MiB and 1 GiB.
#[test]
fn strings_through_64_bit_page_tables() {
    pages(64, 6);
}
