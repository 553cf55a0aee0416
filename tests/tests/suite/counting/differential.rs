//! Random programs see no difference between QEMU's latch and pvio's.
//!
//! Each program runs three times on real QEMU, with a latch at ports 0xe0 to 0xe3: QEMU's own
//! (`-device pc-testdev`), pvio's in front of it, and one that logs its own accesses (`tests/recorder`).
//! Registers, flags, memory, exceptions and the accesses must be the same. The plugin's counts must be
//! those of a model of the programs.
//!
//! In the first two runs QEMU's trace shows the accesses. While the trace is on, each element comes by
//! itself; in the third run a string comes in one call.
//!
//! The programs make no unaligned accesses and none past port 0xe3: there the two latches differ by design.
//!
//! `PVIO_TEST_SEED` sets the seed, `PVIO_TEST_PROGRAMS` the number of programs.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use pvio::stats::Snapshot;
use pvio::x86::PortForm;
use pvio_cli::machine::{Machine, read_stats};
use pvio_tests::{
    Host, assert_consistent, came_in_strings, guest, number_from_env, on_both_qemus,
    recorder_argument, site_pc,
};
use pvio_tests::{
    programs::{
        AddressSize, Batch, CodeKind, Event, Expected, Generator, LoggedAccess, Outcome, read_log,
    },
    without_modules,
};

on_both_qemus! {
    programs_cannot_tell_the_latches_apart
    programs_at_aliases_are_counted_where_they_run
}

without_modules! {
    ; needs "pvio's devices":
    programs_cannot_tell_the_latches_apart
    programs_at_aliases_are_counted_where_they_run
}

const SEED: u64 = 20_070_822;
const PROGRAMS: u64 = 10_000;
/// The guest's memory has room for 43,690 programs, pvio's table of 65,536 sites for about 42,500.
const MOST_PROGRAMS: u64 = 40_000;
/// One program in so many also runs at every linear address of its pages: up to three.
const PROGRAMS_FOR_EACH_WITH_ALIASES: usize = 20;

/// The guest's own code.
const ROM: std::ops::Range<u64> = 0xf_0000..0x10_0000;

/// The exit status after all programs: isa-debug-exit turns 0 into 1.
const ALL_RUN: i32 = 1;

/// The latch at the ports.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Latch {
    Qemu,
    Pvio,
    Recorder,
}

struct Run {
    outcomes: Vec<Outcome>,
    memory: Vec<u8>,
    log: Vec<LoggedAccess>,
    /// For each access, true if it came in a string. Empty if the latch does not report it.
    in_strings: Vec<bool>,
    stats: Snapshot,
}

fn run_batch(host: &Host, batch: &Batch, seed: u64, latch: Latch) -> Run {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    let (ram, trace) = (path("ram"), path("trace"));
    batch.write_memory(&ram, &mut fastrand::Rng::with_seed(!seed)).unwrap();
    let backend =
        format!("memory-backend-file,id=ram,size=64M,share=on,mem-path={}", ram.display());
    let machine = host.machine().bare_guest(&guest("differ.bin")).args([
        "-object",
        &backend,
        "-machine",
        "memory-backend=ram",
        "-device",
        "pc-testdev",
    ]);
    let traced = |machine: Machine, options: &[&str]| {
        let log = trace.display().to_string();
        machine.plugin(options).args(["-trace", "memory_region_ops_*", "-D", &log])
    };
    let (machine, name) = match latch {
        Latch::Qemu => (traced(machine, &[]), "pc-testdev-ioport'"),
        Latch::Pvio => (traced(machine, &["device=latch@0xe0-0xe3"]), "pvio: latch at"),
        Latch::Recorder => {
            let plugin = recorder_argument(&trace, &path("stats"));
            (machine.args(["-plugin", &plugin]), "recorder: ")
        }
    };
    let ended = machine.run().unwrap();
    assert_eq!(ended.status.code(), Some(ALL_RUN), "{}", ended.stderr);
    let memory = std::fs::read(&ram).unwrap();
    let (stats, in_strings) = match latch {
        Latch::Recorder => (read_stats(&path("stats")).unwrap(), came_in_strings(&trace).unwrap()),
        _ => (ended.stats().unwrap().clone(), Vec::new()),
    };
    Run {
        outcomes: batch.read_outcomes(&memory),
        memory,
        log: read_log(&trace, name).unwrap(),
        in_strings,
        stats,
    }
}

fn checked_count(programs: u64) -> usize {
    assert!(
        programs <= MOST_PROGRAMS,
        "PVIO_TEST_PROGRAMS={programs} is too many: it may be up to {MOST_PROGRAMS}"
    );
    programs as usize
}

/// The seed and the programs of this test run, for one QEMU.
fn batch(host: &Host) -> (u64, Batch) {
    let seed = number_from_env("PVIO_TEST_SEED", SEED);
    println!("PVIO_TEST_SEED={seed}");
    let count = checked_count(number_from_env("PVIO_TEST_PROGRAMS", PROGRAMS));
    let generator = match host.api {
        5 => Generator::with_seed(seed).without_ignored_segments(),
        _ => Generator::with_seed(seed),
    };
    (seed, Batch { programs: generator.take(count).collect(), paged: false })
}

fn programs_cannot_tell_the_latches_apart(host: &Host) {
    let (seed, batch) = batch(host);
    let recorded = assert_programs(host, seed, &batch);
    assert_strings_came_in_one_call(&batch, &recorded.in_strings);
}

/// QEMU translates a program once for all linear addresses of its pages; counts go to each address.
fn programs_at_aliases_are_counted_where_they_run(host: &Host) {
    let (seed, mut batch) = batch(host);
    batch.programs.truncate(batch.programs.len().div_ceil(PROGRAMS_FOR_EACH_WITH_ALIASES));
    let recorded = assert_programs(host, seed, &batch.at_aliases());
    assert!(recorded.in_strings.contains(&true), "no string came in one call");
}

/// Compares all three runs. Returns the run with the recorder.
fn assert_programs(host: &Host, seed: u64, batch: &Batch) -> Run {
    let native = run_batch(host, batch, seed, Latch::Qemu);
    let ours = run_batch(host, batch, seed, Latch::Pvio);
    let recorded = run_batch(host, batch, seed, Latch::Recorder);
    assert_same(batch, &native, &ours);
    assert_same(batch, &native, &recorded);
    let mut expected = Expected::default();
    for (program, effects) in &batch.programs {
        expected.add(program, effects, host.reports_exceptions());
    }
    expected.add_end();
    assert_counts(&native.stats, &expected);
    assert_counts(&ours.stats, &expected);
    assert_counts(&recorded.stats, &expected);
    // Each access went to the right device.
    assert!(native.stats.ports.iter().all(|row| row.device == 0 && row.served == Some(true)));
    for row in ours.stats.ports.iter().chain(&recorded.stats.ports) {
        let by_other = if (0xe0..=0xe3).contains(&row.port.0) { row.qemu } else { row.device };
        assert_eq!((by_other, row.served), (0, Some(true)), "{row:?}");
    }
    recorded
}

/// Strings come in one call in every kind of code but virtual-8086, which checks the TSS for each access.
fn assert_strings_came_in_one_call(batch: &Batch, in_strings: &[bool]) {
    let mut elements: HashMap<CodeKind, usize> = HashMap::new();
    let mut left = in_strings.iter();
    for (program, effects) in &batch.programs {
        let its = left.by_ref().take(effects.accesses().count());
        *elements.entry(program.kind).or_default() += its.filter(|&&in_string| in_string).count();
    }
    for kind in CodeKind::ALL {
        let came = elements[&kind] * 100 > in_strings.len() / CodeKind::ALL.len();
        assert_eq!(came, kind != CodeKind::Virtual8086, "{kind:?}: {elements:?}");
    }
}

/// Fails with the first program whose runs differ.
fn assert_same(batch: &Batch, native: &Run, ours: &Run) {
    let (mut native_log, mut our_log) = (native.log.iter(), ours.log.iter());
    for (index, (program, effects)) in batch.programs.iter().enumerate() {
        let (left, right) = (&native.outcomes[index], &ours.outcomes[index]);
        let expected: Vec<_> = effects.accesses().collect();
        let left_log: Vec<_> = native_log.by_ref().take(expected.len()).collect();
        let right_log: Vec<_> = our_log.by_ref().take(expected.len()).collect();
        let what = if !left.ended_as_modelled(program, effects) {
            "does not end as it should"
        } else if left != right {
            "comes out different"
        } else if left_log != right_log {
            "makes different accesses"
        } else if !left_log.iter().map(|logged| logged.access).eq(expected.iter().copied()) {
            "makes other accesses than it should, or the one before makes more"
        } else {
            continue;
        };
        let before = index.checked_sub(1).map(|before| &batch.programs[before].0);
        let before = before.map_or(String::new(), |program| format!("before: {program}\n"));
        panic!(
            "program {index} {what}\n{before}{program}\nQEMU's latch:\n{left}\n  {}\n\
             pvio's latch:\n{right}\n  {}\naccesses it should make: {}",
            lines(&left_log),
            lines(&right_log),
            lines(&expected)
        );
    }
    let more = (native_log.next(), our_log.next());
    assert_eq!(more, (None, None), "accesses after those of the last program");
    let differs = native.memory.iter().zip(&ours.memory).position(|(left, right)| left != right);
    assert_eq!(differs, None, "address at which the final memory differs");
}

/// The items as text, at most 30 of them.
fn lines(items: &[impl Debug]) -> String {
    const MOST: usize = 30;
    let shown: Vec<_> = items.iter().take(MOST).map(|item| format!("{item:?}")).collect();
    let dots = if items.len() > MOST { ", ..." } else { "" };
    format!("{} of them: {}{dots}", items.len(), shown.join(", "))
}

fn assert_counts(stats: &Snapshot, expected: &Expected) {
    assert_consistent(stats);
    let mut counted = Expected::default();
    for row in stats.forms.iter().filter(|row| row.attempts > 0) {
        let faults = row.faults.unwrap_or(0);
        let counts = [row.attempts, row.executions, row.accesses, faults, row.unverified];
        counted.forms.insert(row.form, counts);
    }
    for row in &stats.ports {
        let accesses = [row.device + row.qemu, row.unverified];
        counted.ports.insert((row.port, row.dir, row.size.0.unwrap()), accesses);
    }
    for row in stats.sites.iter().filter(|row| row.counts.executions + row.counts.unverified > 0) {
        let mode = row.mode.expect("QEMU tells the mode");
        let pc = site_pc(row);
        let pc = Some(pc).filter(|pc| !ROM.contains(pc));
        *counted.sites.entry((pc, mode, row.form.decided().unwrap())).or_default() +=
            row.counts.executions + row.counts.unverified;
    }
    assert_eq!(stats.sites_dropped, 0);
    assert_maps(
        "attempts, executions, accesses, faults, unverified",
        &counted.forms,
        &expected.forms,
    );
    assert_maps("accesses, unverified", &counted.ports, &expected.ports);
    assert_maps("executions", &counted.sites, &expected.sites);
}

/// Fails with the rows that differ.
fn assert_maps<K: Debug + Ord, V: Debug + PartialEq>(
    what: &str,
    counted: &BTreeMap<K, V>,
    expected: &BTreeMap<K, V>,
) {
    let keys =
        counted.keys().chain(expected.keys()).filter(|key| counted.get(key) != expected.get(key));
    let differences: BTreeMap<_, _> =
        keys.map(|key| (key, (counted.get(key), expected.get(key)))).collect();
    assert!(differences.is_empty(), "{what} (counted, expected): {differences:#?}");
}

#[test]
#[should_panic(expected = "PVIO_TEST_PROGRAMS=40001 is too many: it may be up to 40000")]
fn too_many_programs_are_refused() {
    checked_count(40_001);
}

#[test]
fn programs_cover_every_form_and_event_in_every_kind_of_code() {
    let (_, batch) = batch(&Host::NEWEST);
    let mut forms: HashMap<(CodeKind, PortForm), u64> = HashMap::new();
    let mut events: HashMap<(CodeKind, Event), u64> = HashMap::new();
    for (program, effects) in &batch.programs {
        for form in effects.forms() {
            *forms.entry((program.kind, form)).or_default() += 1;
        }
        for &event in &effects.events {
            *events.entry((program.kind, event)).or_default() += 1;
        }
    }
    let enough = |count: Option<&u64>| {
        count.is_some_and(|&count| count * 1500 >= batch.programs.len() as u64)
    };
    for kind in CodeKind::ALL {
        for form in PortForm::ALL {
            let count = forms.get(&(kind, form));
            assert!(enough(count), "{form} in {kind:?}: {count:?}");
        }
        for event in expected_events(kind) {
            let count = events.get(&(kind, event));
            assert!(enough(count), "{event:?} in {kind:?}: {count:?}");
        }
    }
}

/// The events that must happen in each kind of code.
fn expected_events(kind: CodeKind) -> Vec<Event> {
    use AddressSize::{Bits16, Bits32, Bits64};
    use Event::*;
    let mut events = vec![CrossesPages, Unaligned, CountsZero, CountsHundreds];
    // Real mode's segments end at 64 KiB.
    events.extend(match (kind.bits(), kind.has_paragraphs()) {
        (_, true) => vec![WrapsAround(Bits16)],
        (64, _) => vec![WrapsAround(Bits32), WrapsAround(Bits64)],
        _ => vec![WrapsAround(Bits16), WrapsAround(Bits32)],
    });
    if kind.is_long() {
        events.extend([FaultsAtOnce, FaultsLater]);
    }
    events
}
