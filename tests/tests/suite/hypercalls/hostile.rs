//! Random calls, most of them wrong (`tests/guests/calls/hostile.c`), harm neither guest nor QEMU.
//!
//! The guest gets a status for each call, and finds nothing changed that a call may not change. QEMU's
//! memory does not grow.

use std::path::{Path, PathBuf};
use std::process::Command;

use pvio::stats::Call;
use pvio_cli::expected_forms;
use pvio_tests::{
    GuestRun, Host, assert_consistent, guest, number_from_env, on_answering_qemus, without_modules,
};

use super::memory::callers_served;

on_answering_qemus! {
    wrong_calls_from_32_bit_code_do_no_harm
    wrong_calls_from_64_bit_code_do_no_harm
}

without_modules! {
    ; needs "pvio's devices":
    wrong_calls_from_32_bit_code_do_no_harm
    wrong_calls_from_64_bit_code_do_no_harm
}

/// The bytes that QEMU may grow in the second half of a run. `PVIO_TEST_GROWTH` replaces it: AddressSanitizer keeps
/// memory that was freed.
///
/// Runs so far did not grow. A leak of 8 bytes in each of the second half's 60,000 calls would exceed this.
const GROWTH: u64 = 400 << 10;

/// An arbitrary constant. `PVIO_TEST_SEED` replaces it.
const SEED: u64 = 0x5eed_2007_0822_0001;

/// Makes the shared directory, with what names of the guest lead to. Returns the files that must stay.
fn make_share(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let share = directory.join("share");
    std::fs::create_dir_all(share.join("sub")).unwrap();
    let kept = [(directory.join("outside"), vec![1; 10]), (share.join("in"), vec![2; 70_000])];
    kept.iter().for_each(|(path, contents)| std::fs::write(path, contents).unwrap());
    std::os::unix::fs::symlink("../outside", share.join("link")).unwrap();
    std::os::unix::fs::symlink(".", share.join("directory-link")).unwrap();
    assert!(Command::new("mkfifo").arg(share.join("fifo")).status().unwrap().success());
    kept.to_vec()
}

/// Fails if the guest changed a file that was there, or left a part of one, or left the directory.
fn assert_share(directory: &Path, before: &[(PathBuf, Vec<u8>)]) {
    for (path, contents) in before {
        assert!(std::fs::read(path).unwrap() == *contents, "{}", path.display());
    }
    let mut bytes = 0;
    for (folder, known) in [
        (directory.to_owned(), &["in", "log", "outside", "share"][..]),
        (directory.join("share"), &["in", "a", "b", "c", "sub", "link", "directory-link", "fifo"]),
        (directory.join("share/sub"), &["d"]),
    ] {
        for entry in folder.read_dir().unwrap() {
            let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
            let name = name.to_str().unwrap();
            assert!(known.contains(&name) || name.starts_with("stats"), "{}", entry.display());
            if entry.is_file() && folder != directory && name != "in" {
                bytes += entry.metadata().unwrap().len();
            }
        }
    }
    assert!(bytes <= 4 << 20);
}

/// Runs a guest that makes at least `least` calls.
pub(super) fn hostile(host: &Host, name: &str, least: u64) {
    let seed = number_from_env("PVIO_TEST_SEED", SEED);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let mut rng = fastrand::Rng::with_seed(seed);
    let input: Vec<u8> = (0..1 << 20).map(|_| rng.u8(..)).collect();
    std::fs::write(path("in"), input).unwrap();
    let before = make_share(directory.path());
    let mut running = host
        .machine()
        .plugin(callers_served(host))
        .plugin(&["summary=off", "device=latch@0x5000", "device=ones@0x320"])
        .plugin(&[&format!("device=stream@0x300:in={}", path("in"))])
        .plugin(&["device=uart16550@0x2f8:irq=3:file=/dev/null"])
        .plugin(&[&format!("log={}", path("log")), &format!("stats={}", path("stats"))])
        .plugin(&[&format!("share={}:file-limit=100K:total-limit=4M", path("share"))])
        .bare_guest(&guest(&format!("calls-{name}.bin")))
        .args(["-cpu", "max", "-debugcon", "stdio"])
        .start()
        .unwrap();
    running.wait_for("half 0\n").unwrap();
    let half = running.resident().unwrap();
    running.wait_for("whole 0\n").unwrap();
    let whole = running.resident().unwrap();
    let ended = running.wait().unwrap();
    let console = ended.stdout.clone().into_bytes();
    let run = GuestRun { name: "calls-hostile".to_owned(), ended, console };
    let (status, stderr) = (run.ended.status.code(), &run.ended.stderr);
    assert_eq!(status, Some(expected_forms::PASSED), "seed {seed}: {}{stderr}", run.text());
    assert!(!stderr.contains("panicked"), "seed {seed}: {stderr}");
    let growth = number_from_env("PVIO_TEST_GROWTH", GROWTH);
    assert!(whole < half + growth, "seed {seed}: QEMU grew from {half} to {whole} bytes");

    let stats = pvio_cli::machine::read_stats(path("stats").as_ref()).unwrap();
    assert_consistent(&stats);
    let told = |name: &str| run.number(name);
    assert!(told("calls") >= least);
    // Records of a batch make none of these calls.
    let control = ["log", "begin", "end", "dump", "file_read", "file_write", "file_finish"];
    for name in ["batch", "batch_compact"].into_iter().chain(control) {
        let row = stats.hypercalls.iter().find(|row| row.call.to_string() == name).unwrap();
        assert_eq!(row.count, told(name), "seed {seed}: {name}");
        assert_eq!(row.denied, 0, "seed {seed}: {name}");
        assert!(row.errors <= row.count);
    }
    let row = |call| stats.hypercalls.iter().find(|row| row.call == call).unwrap();
    for call in [Call::FileRead, Call::FileWrite, Call::FileFinish] {
        assert!(row(call).errors < row(call).count, "seed {seed}: no {call} succeeded");
    }
    assert_share(directory.path(), &before);
    // The guest tried to make more windows than the limit.
    assert_eq!(stats.windows.len(), 256);
    // The log has no control characters, so it is harmless to a terminal.
    let log = String::from_utf8(std::fs::read(path("log")).unwrap()).unwrap();
    assert!(log.lines().count() > 100);
    assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "seed {seed}");
}

fn wrong_calls_from_32_bit_code_do_no_harm(host: &Host) {
    hostile(host, "hostile32", 100_000);
}

fn wrong_calls_from_64_bit_code_do_no_harm(host: &Host) {
    hostile(host, "hostile64", 100_000);
}
