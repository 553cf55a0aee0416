//! Random calls from every ring and mode do exactly what they ask.
//!
//! A guest makes tens of thousands of calls and checks the effects of each, also while another CPU rewrites
//! its records or its page tables. The tests check that QEMU stays up, does not grow, and counts the calls.
//!
//! `PVIO_TEST_SEED` sets the seed, `PVIO_TEST_CALLS` the number of calls.

use std::collections::BTreeMap;
use std::time::Duration;

use pvio::stats::Call;
use pvio_tests::{
    Host, assert_consistent, guest, number_from_env, on_answering_qemus, without_modules,
};

use super::memory::callers_served;

on_answering_qemus! {
    random_call_does_what_it_asks_and_nothing_else
    overlapping_batch_records_do_no_harm
    records_rewritten_by_another_vcpu_do_no_harm
    page_tables_changed_by_another_vcpu_do_no_harm
}

without_modules! {
    ; needs "pvio's devices":
    random_call_does_what_it_asks_and_nothing_else
    overlapping_batch_records_do_no_harm
    records_rewritten_by_another_vcpu_do_no_harm
    page_tables_changed_by_another_vcpu_do_no_harm
}

const SEED: u64 = 20_070_823;
/// The number of calls in each of the eight runs.
const CALLS: u64 = 20_000;

/// Choices of the guest, as in `calls/random.c`.
const WILD: u32 = 1;
const SECOND_CPU: u32 = 2;
const MOVING: u32 = 4;

/// The bytes that QEMU may grow between a quarter of the calls and the end.
///
/// QEMU's own memory varies by about one MiB: translated code, and what its allocator keeps. The counters by call site
/// and port, and the windows that hold them, grow to a limit: up to 7 MiB were seen, and no more with five and fifteen
/// times the calls. Losing one buffer per call would be 80 MiB.
const GROWTH: u64 = 10 << 20;

/// Runs a guest to its end.
fn random_calls(host: &Host, bits: u32, choice: u32) {
    random_calls_of(host, &format!("random{bits}"), bits, choice);
}

/// Runs a guest to its end. Through a mailbox, the registration is a call more.
pub(super) fn random_calls_of(host: &Host, name: &str, bits: u32, choice: u32) {
    let by_mailbox = name.starts_with("by-mailbox");
    let seed = number_from_env("PVIO_TEST_SEED", SEED) as u32 ^ bits << 8 ^ choice;
    let calls = number_from_env("PVIO_TEST_CALLS", CALLS) as u32;
    println!("PVIO_TEST_SEED={} of {bits} bits, {choice}", number_from_env("PVIO_TEST_SEED", SEED));
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let mut input: Vec<u8> = [seed, calls, choice].into_iter().flat_map(u32::to_le_bytes).collect();
    input.resize(1 << 20, 0x5a);
    std::fs::write(path("in"), input).unwrap();
    let mut running = host
        .machine()
        .plugin(callers_served(host))
        .plugin(&["summary=off", "device=latch@0x5000"])
        .plugin(&["device=null@0x5100-0x5101", "device=ones@0x5200-0x5201"])
        .plugin(&[&format!("device=stream@0x300:in={}:out={}", path("in"), path("out"))])
        .plugin(&[&format!("device=console@0x5300-0x5301:file={}", path("console"))])
        .plugin(&[&format!("log={}", path("log"))])
        .bare_guest(&guest(&format!("calls-{name}.bin")))
        .args(["-cpu", "max", "-debugcon", "stdio"])
        .args(["-smp", if choice & SECOND_CPU != 0 { "2" } else { "1" }])
        // A long part makes a million calls.
        .time_limit(Duration::from_secs(120 + u64::from(calls) / 2000))
        .start()
        .unwrap();
    running.wait_for("warm\n").unwrap();
    let before = running.resident().unwrap();
    running.wait_for("done\n").unwrap();
    let after = running.resident().unwrap();
    running.signal(libc::SIGTERM).unwrap();
    let ended = running.wait().unwrap();
    assert!(after < before + GROWTH, "QEMU had {before} bytes resident, and then {after}");

    let stats = ended.stats().unwrap();
    assert_consistent(stats);
    let told = |name| {
        let lines = ended.stdout.lines().filter_map(move |line: &str| line.strip_prefix(name));
        lines.map(|number| number.parse::<u64>().unwrap())
    };
    // The guest reports calls by number. Wrong records count as unknown calls.
    let mut made: BTreeMap<Call, u64> = BTreeMap::new();
    for (number, count) in (0..).zip(told("made ")) {
        *made.entry(Call::from_number(number)).or_default() += count;
    }
    *made.entry(Call::Unknown).or_default() += told("wrong records ").sum::<u64>();
    for (call, made) in made {
        if by_mailbox && matches!(call, Call::RegisterLarge | Call::Release) {
            continue;
        }
        let row = stats.hypercalls.iter().find(|row| row.call == call);
        let counted = row.map_or(0, |row| row.count);
        // If records overlap, the guest does not know which calls a batch made.
        match choice != 0 && (call.port_io().is_some() || call == Call::Unknown) {
            true => assert!(counted >= made, "{call}: {counted}, at least {made} were made"),
            false => assert_eq!(counted, made, "{call}"),
        }
    }
}

fn random_call_does_what_it_asks_and_nothing_else(host: &Host) {
    random_calls(host, 32, 0);
    random_calls(host, 64, 0);
}

fn overlapping_batch_records_do_no_harm(host: &Host) {
    random_calls(host, 32, WILD);
    random_calls(host, 64, WILD);
}

fn records_rewritten_by_another_vcpu_do_no_harm(host: &Host) {
    random_calls(host, 32, WILD | SECOND_CPU);
    random_calls(host, 64, WILD | SECOND_CPU);
}

/// A call that used the rights of one entry and the frame of another would write where the guest finds it.
fn page_tables_changed_by_another_vcpu_do_no_harm(host: &Host) {
    random_calls(host, 32, WILD | SECOND_CPU | MOVING);
    random_calls(host, 64, WILD | SECOND_CPU | MOVING);
}
