//! Hypercalls that read or write memory.
//!
//! Guests of `tests/guests/calls` make them under page tables of every kind, from every ring, with accessible and
//! inaccessible pages. After each call they check memory, registers, devices and the page tables. The tests check the
//! bytes in the stream.

use pvio_tests::{GuestRun, GuestTest, Host, on_answering_qemus, without_modules};

use super::RunFiles;

on_answering_qemus! {
    strings_work_through_32_bit_page_tables
    strings_work_through_64_bit_page_tables
    calls_have_the_memory_rights_of_their_callers
    impossible_addresses_are_rejected
    batch_stops_at_a_missing_page_or_a_wrong_record
    compact_batch_stops_at_a_missing_page_or_a_wrong_record
    nested_guest_is_not_answered
}

without_modules! {
    ; needs "pvio's devices":
    strings_work_through_32_bit_page_tables
    strings_work_through_64_bit_page_tables
    calls_have_the_memory_rights_of_their_callers
    impossible_addresses_are_rejected
    batch_stops_at_a_missing_page_or_a_wrong_record
    compact_batch_stops_at_a_missing_page_or_a_wrong_record
    nested_guest_is_not_answered
}

/// A guest that has passed, and its files.
pub(super) struct Passed {
    pub run: GuestRun,
    pub files: RunFiles,
}

/// Runs a guest with a stream and a latch.
pub(super) fn run_with_stream(host: &Host, name: &str) -> Passed {
    let files = RunFiles::new();
    let machine = host
        .machine()
        .plugin(callers_served(host))
        .plugin(&["summary=off", "device=latch@0x5000", &files.stream()])
        .plugin(&[&format!("log={}", files.path("log"))]);
    let run = GuestTest::new(machine, &format!("calls-{name}"))
        // Pages of 1 GiB need that much memory. The guest uses little of it.
        .args(["-object", "memory-backend-ram,id=ram,size=2G,reserve=off", "-m", "2G"])
        .args(["-machine", "memory-backend=ram", "-cpu", "max", "-device", "VGA,romfile="])
        .run();
    files.assert_given(&run);
    Passed { run, files }
}

/// The option for calls from every ring, which needs answers in registers.
pub(super) fn callers_served(host: &Host) -> &'static [&'static str] {
    if host.api == 4 { &[] } else { &["hypercall=any"] }
}

/// Fails unless the counted bytes are those that the guest reports.
pub(super) fn assert_bytes(passed: &Passed) {
    let stats = passed.run.stats();
    let moved = stats.hypercalls.iter().filter(|row| row.call.port_io().is_some());
    let known = ["given", "taken", "latched"].map(|name| passed.run.number(name));
    assert_eq!(moved.map(|row| row.bytes).sum::<u64>(), known.iter().sum::<u64>());
}

pub(super) fn pages(host: &Host, name: &str) {
    let passed = run_with_stream(host, name);
    assert_eq!(
        passed.run.number("kinds"),
        6,
        "this QEMU lacks a kind of paging: {}",
        passed.run.text()
    );
    assert_bytes(&passed);
}

/// No paging; 32-bit paging, without PSE, and with pages of 4 KiB and 4 MiB; PAE with 4 KiB and 2 MiB.
fn strings_work_through_32_bit_page_tables(host: &Host) {
    pages(host, "pages32");
}

/// Four and five levels, with pages of 4 KiB, 2 MiB and 1 GiB.
fn strings_work_through_64_bit_page_tables(host: &Host) {
    pages(host, "pages64");
}

/// SMAP and protection keys, callers in other rings and modes, instructions of other modes.
fn calls_have_the_memory_rights_of_their_callers(host: &Host) {
    rights(host, "rights");
}

pub(super) fn rights(host: &Host, name: &str) {
    let narrow = run_with_stream(host, &format!("{name}32")).run.text();
    let wide = run_with_stream(host, &format!("{name}64")).run.text();
    let said = |text: &str, line: &str| text.lines().filter(|&l| l == line).count();
    assert_eq!((said(&narrow, "SMAP 2"), said(&narrow, "SMAP 3")), (2, 1), "{narrow}");
    for line in ["SMAP", "user keys", "supervisor keys"] {
        for levels in [4, 5] {
            let line = format!("{line} {levels}");
            assert_eq!(said(&wide, &line), 1, "this QEMU lacks {line}: {wide}");
        }
    }
}

/// The line that the guest of `calls/addresses.c` logs.
const LINE: &str = "a line of the guest's, which is in ROM";

fn impossible_addresses_are_rejected(host: &Host) {
    addresses(host, "addresses");
}

pub(super) fn addresses(host: &Host, name: &str) {
    for bits in [32, 64] {
        let passed = run_with_stream(host, &format!("{name}{bits}"));
        assert_bytes(&passed);
        let log = String::from_utf8(passed.files.read("log")).unwrap();
        let lines = log.lines().filter(|line| line.ends_with(&format!("] info: {LINE}")));
        assert_eq!(lines.count() as u64, passed.run.number("lines"));
        assert_eq!(log.lines().count() as u64, passed.run.number("lines"));
        let windows = &passed.run.stats().windows;
        let entries: Vec<_> = windows.iter().map(|row| (row.name.as_str(), row.entries)).collect();
        assert_eq!(entries, [(LINE, passed.run.number("windows"))]);
    }
}

fn batch_stops_at_a_missing_page_or_a_wrong_record(host: &Host) {
    run_with_stream(host, "batches32");
    run_with_stream(host, "batches64");
}

fn compact_batch_stops_at_a_missing_page_or_a_wrong_record(host: &Host) {
    run_with_stream(host, "compact32");
    run_with_stream(host, "compact64");
}

/// A nested guest's addresses and ports are not the hypervisor's, so its calls must have no effect.
fn nested_guest_is_not_answered(host: &Host) {
    let passed = run_with_stream(host, "nested64");
    let declined = passed.run.stats().hypercalls.iter().map(|row| row.declined);
    assert_eq!(declined.sum::<u64>(), passed.run.number("declined"));
}
