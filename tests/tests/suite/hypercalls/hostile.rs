//! A guest that makes random calls, most of them wrong (`tests/guests/calls/hostile.c`): it stays up, gets a
//! status for each, finds nothing changed that a call may not change, and QEMU does not grow.

use pvio_cli::expected_forms;
use pvio_tests::{Host, assert_consistent, guest, number_from_env};

/// How much QEMU may grow from the middle of a run to its end, in bytes: nothing was seen. A leak of 8 bytes
/// for each of the second half's 60,000 calls is more.
const GROWTH: u64 = 400 << 10;

/// Without reason, but for being the same each time; `PVIO_TEST_SEED` tries another.
const SEED: u64 = 0x5eed_2007_0822_0001;

fn hostile(bits: u32) {
    let seed = number_from_env("PVIO_TEST_SEED", SEED);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let mut rng = fastrand::Rng::with_seed(seed);
    let input: Vec<u8> = (0..1 << 20).map(|_| rng.u8(..)).collect();
    std::fs::write(path("in"), input).unwrap();
    let mut running = Host::NEWEST
        .machine()
        .plugin(&["summary=off", "hypercall=any", "device=latch@0x5000", "device=ones@0x320"])
        .plugin(&[&format!("device=stream@0x300:in={}", path("in"))])
        .plugin(&["device=uart16550@0x2f8:irq=3:file=/dev/null"])
        .plugin(&[&format!("log={}", path("log")), &format!("stats={}", path("stats"))])
        .bare_guest(&guest(&format!("calls-hostile{bits}.bin")))
        .args(["-cpu", "max", "-debugcon", "stdio"])
        .start()
        .unwrap();
    running.wait_for("half 0\n").unwrap();
    let half = running.resident().unwrap();
    running.wait_for("whole 0\n").unwrap();
    let whole = running.resident().unwrap();
    let ended = running.wait().unwrap();
    let said = &ended.stdout;
    let status = ended.status.code();
    assert_eq!(status, Some(expected_forms::PASSED), "seed {seed}: {said}{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "seed {seed}: {}", ended.stderr);
    assert!(whole < half + GROWTH, "seed {seed}: QEMU grew from {half} to {whole} bytes");

    let stats = pvio_cli::machine::read_stats(path("stats").as_ref()).unwrap();
    assert_consistent(&stats);
    let told = |name: &str| -> u64 {
        let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}: {said}")).parse().unwrap()
    };
    assert!(told("calls") >= 100_000);
    // Others are also made by records of a batch.
    for name in ["batch", "log", "begin", "end", "dump"] {
        let row = stats.hypercalls.iter().find(|row| row.call.to_string() == name).unwrap();
        assert_eq!(row.count, told(name), "seed {seed}: {name}");
        assert_eq!(row.denied, 0, "seed {seed}: {name}");
        assert!(row.errors <= row.count);
    }
    // As many as there may be, and no more: the guest has tried.
    assert_eq!(stats.windows.len(), 256);
    // What was logged is harmless to a terminal, whatever it was.
    let log = String::from_utf8(std::fs::read(path("log")).unwrap()).unwrap();
    assert!(log.lines().count() > 100);
    assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "seed {seed}");
}

#[test]
fn nothing_comes_of_hostile_calls_from_32_bit_code() {
    hostile(32);
}

#[test]
fn nothing_comes_of_hostile_calls_from_64_bit_code() {
    hostile(64);
}
