//! `insns=` counts the instructions that retire, in a guest that knows their number.

use pvio::stats::{Instructions, Snapshot};
use pvio_cli::machine::Machine;
use pvio_tests::{Host, guest, run_guest};

/// The number of instructions in the guest's timer handler.
const TICK: u64 = 6;

/// Runs the guest. Returns the statistics, the number of timer ticks, and stderr.
fn count_instructions(machine: Machine, insns: &str) -> (Snapshot, u64, String) {
    let run = run_guest(machine.plugin(&[&format!("insns={insns}"), "summary=on"]), "insns");
    let ticks = u32::from_le_bytes(run.console[..].try_into().expect("one number"));
    (run.stats().clone(), ticks.into(), run.ended.stderr)
}

/// Fails unless each window has the number of instructions that its name contains.
fn assert_exact(stats: &Snapshot, ticks: u64) {
    assert_eq!(stats.windows.len(), 14);
    let mut all = 0;
    for window in &stats.windows {
        let (name, number) = window.name.trim_end().split_once(':').unwrap();
        let ticks = if name == "ticks" { ticks } else { 0 };
        let expected = number.parse::<u64>().unwrap() + ticks * TICK;
        assert_eq!(window.instructions, retired(expected), "{name}, {ticks} ticks");
        assert_eq!(window.vcpus[0].instructions, window.instructions, "{name}");
        all += expected;
    }
    let total = stats.instructions.instructions.unwrap();
    // Outside the windows: some dozens of instructions around each, and the start.
    assert!((all + 100..all + 10_000).contains(&total), "{total} of which {all} in windows");
    let by_vcpu: u64 = stats.vcpus.iter().map(|row| row.instructions.instructions.unwrap()).sum();
    assert_eq!(by_vcpu, total);
}

fn retired(count: u64) -> Instructions {
    Instructions { instructions: Some(count), instructions_unverified: None }
}

fn check_exact(machine: Machine) {
    let (stats, ticks, stderr) = count_instructions(machine, "on");
    assert_exact(&stats, ticks);
    assert!(ticks > 0, "no timer interrupt");
    assert!(stderr.contains(" instructions"), "{stderr}");
}

#[test]
fn retired_instructions_are_counted_exactly() {
    check_exact(Host::NEWEST.machine());
}

#[test]
fn retired_instructions_are_counted_exactly_with_icount() {
    check_exact(Host::NEWEST.machine().args(["-icount", "shift=0"]));
}

#[test]
fn retired_instructions_are_counted_exactly_with_one_per_block() {
    check_exact(Host::NEWEST.machine().args(["-accel", "tcg,one-insn-per-tb=on"]));
}

#[test]
fn retired_instructions_are_counted_exactly_on_one_of_two_vcpus() {
    check_exact(Host::NEWEST.machine().args(["-accel", "tcg,thread=multi", "-smp", "2"]));
}

#[test]
fn instructions_are_counted_by_section() {
    let elf = guest("insns.elf");
    let (stats, ticks, _) = count_instructions(Host::NEWEST.machine(), elf.to_str().unwrap());
    assert_exact(&stats, ticks);
    let [text] = &stats.sections[..] else { panic!("{:?}", stats.sections) };
    assert_eq!((&*text.name, &*text.start), (".text", "0xf0000"));
    let elsewhere =
        |all: Instructions, of: Instructions| all.instructions.unwrap() - of.instructions.unwrap();
    // Code that the guest copied elsewhere.
    let self_modifying =
        stats.windows.iter().find(|window| window.name.starts_with("self-modifying")).unwrap();
    let moved = elsewhere(self_modifying.instructions, self_modifying.sections[0].instructions);
    assert_eq!(moved, 501);
    // The reset vector, too, and two jumps.
    assert_eq!(elsewhere(stats.instructions, text.instructions), 1 + 501 + 2);
}

/// Without exception events, an instruction that began may have faulted.
#[test]
fn instructions_are_unverified_without_exception_events() {
    let (stats, _, stderr) = count_instructions(Host::STABLE.machine(), "on");
    assert_eq!(stats.instructions.instructions, None);
    let begun = stats.instructions.instructions_unverified.unwrap();
    assert_eq!(stats.vcpus[0].instructions.instructions_unverified, Some(begun));
    let (newest, _, _) = count_instructions(Host::NEWEST.machine(), "on");
    assert!(begun > newest.instructions.instructions.unwrap() / 2, "{begun}");
    assert!(stderr.contains("instructions began"), "{stderr}");
}

#[test]
fn vcpus_on_one_thread_are_refused() {
    let machine = Host::NEWEST.machine().args(["-accel", "tcg,thread=single", "-smp", "3"]);
    let (stats, _, stderr) = count_instructions(machine, "on");
    assert_eq!(stats.instructions, Instructions::default());
    let said = stderr.lines().filter(|line| line.contains("option \"insns\"")).count();
    assert_eq!(said, 1, "{stderr}");
}

#[test]
fn nothing_is_counted_that_was_not_asked_for() {
    let (stats, _, stderr) = count_instructions(Host::NEWEST.machine(), "off");
    assert_eq!(stats.instructions, Instructions::default());
    assert!(stats.sections.is_empty() && !stderr.contains("instructions"), "{stderr}");
}
