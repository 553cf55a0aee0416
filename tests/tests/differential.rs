//! Programs at random, each run twice on real QEMU: against QEMU's own latch at ports 0xe0 to 0xe3
//! (`-device pc-testdev`), and against the plugin's above it. Registers, flags, memory, exceptions
//! and what the device saw must be the same; and the plugin's counts, in both runs, what the
//! programs must have done.
//!
//! `PVIO_TEST_SEED` sets another seed than the one below, `PVIO_TEST_PROGRAMS` another number.

use std::collections::BTreeMap;

use pvio::stats::Snapshot;
use pvio_tests::programs::{Batch, Expected, LoggedAccess, Outcome, generate, read_log};
use pvio_tests::{Host, assert_consistent, guest, on_both_qemus};

on_both_qemus! {
    programs_cannot_tell_the_latches_apart
}

const SEED: u64 = 20_070_822;
const PROGRAMS: u64 = 10_000;

/// The exit status when the guest has run all programs: isa-debug-exit makes 1 of 0.
const ALL_RUN: i32 = 1;

/// Who serves the ports.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Latch {
    Qemu,
    Pvio,
}

struct Run {
    outcomes: Vec<Outcome>,
    memory: Vec<u8>,
    log: Vec<LoggedAccess>,
    stats: Snapshot,
}

fn run(host: &Host, batch: &Batch, seed: u64, latch: Latch) -> Run {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    let (ram, trace) = (path("ram"), path("trace"));
    batch.write_memory(&ram, &mut fastrand::Rng::with_seed(!seed)).unwrap();
    let (options, name): (&[&str], _) = match latch {
        Latch::Qemu => (&[], "pc-testdev-ioport'"),
        Latch::Pvio => (&["device=latch@0xe0-0xe3"], "pvio: latch at"),
    };
    let backend =
        format!("memory-backend-file,id=ram,size=64M,share=on,mem-path={}", ram.display());
    let ended = host
        .machine()
        .plugin(options)
        .bare_guest(&guest("differ.bin"))
        .args(["-object", &backend, "-machine", "memory-backend=ram"])
        .args(["-device", "pc-testdev", "-trace", "memory_region_ops_*"])
        .args(["-D", &trace.display().to_string()])
        .run()
        .unwrap();
    assert_eq!(ended.status.code(), Some(ALL_RUN), "{}", ended.stderr);
    let memory = std::fs::read(&ram).unwrap();
    Run {
        outcomes: batch.read_outcomes(&memory),
        memory,
        log: read_log(&trace, name).unwrap(),
        stats: ended.stats().unwrap().clone(),
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => otherwise,
    }
}

fn programs_cannot_tell_the_latches_apart(host: &Host) {
    let seed = number("PVIO_TEST_SEED", SEED);
    println!("PVIO_TEST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let programs = (0..number("PVIO_TEST_PROGRAMS", PROGRAMS)).map(|_| generate(&mut rng));
    let batch = Batch { programs: programs.collect() };
    let native = run(host, &batch, seed, Latch::Qemu);
    let ours = run(host, &batch, seed, Latch::Pvio);

    assert_same(&batch, &native, &ours);
    let mut expected = Expected::default();
    for (program, effects) in &batch.programs {
        expected.add(program.kind, effects, host.reports_exceptions());
    }
    expected.add_end();
    assert_counts(&native.stats, &expected);
    assert_counts(&ours.stats, &expected);
}

/// Fails with the first program that made a difference.
fn assert_same(batch: &Batch, native: &Run, ours: &Run) {
    let (mut native_log, mut our_log) = (native.log.iter(), ours.log.iter());
    for (index, (program, effects)) in batch.programs.iter().enumerate() {
        let (left, right) = (&native.outcomes[index], &ours.outcomes[index]);
        let expected: Vec<_> = effects.accesses().collect();
        let left_log: Vec<_> = native_log.by_ref().take(expected.len()).collect();
        let right_log: Vec<_> = our_log.by_ref().take(expected.len()).collect();
        let as_modelled =
            |log: &[&LoggedAccess]| log.iter().map(|one| one.access).eq(expected.iter().copied());
        let what = if !left.ended_as_modelled(program, effects) {
            "does not end as it should"
        } else if left != right {
            "comes out different"
        } else if left_log != right_log {
            "makes different accesses"
        } else if !as_modelled(&left_log) {
            "makes other accesses than it should"
        } else {
            continue;
        };
        panic!(
            "program {index} {what}\n{program}\non QEMU's latch:\n{left}\n{left_log:x?}\n\
             on pvio's latch:\n{right}\n{right_log:x?}\nmodelled: {expected:x?}"
        );
    }
    assert_eq!((native_log.next(), our_log.next()), (None, None), "accesses of no program");
    let differs = native.memory.iter().zip(&ours.memory).position(|(left, right)| left != right);
    assert_eq!(differs, None, "an address at which the memory differs in the end");
}

fn assert_counts(stats: &Snapshot, expected: &Expected) {
    assert_consistent(stats);
    let mut counted = Expected::default();
    for row in stats.forms.iter().filter(|row| row.attempts > 0) {
        let faults = row.faults.unwrap_or(0);
        let counts = [row.attempts, row.executions, row.accesses, faults, row.unverified];
        counted.forms.insert(row.form.index(), counts);
    }
    for row in &stats.ports {
        counted
            .ports
            .insert((row.port, row.dir, row.size), [row.device + row.qemu, row.unverified]);
    }
    let mut modes = BTreeMap::new();
    for row in &stats.sites {
        let mode = row.mode.expect("QEMU tells the mode");
        *modes.entry((mode, row.form)).or_default() +=
            row.counts.executions + row.counts.unverified;
    }
    modes.retain(|_, &mut executions| executions > 0);
    counted.modes = modes;
    assert_eq!(stats.sites_dropped, 0);
    assert_eq!(&counted, expected);
}
