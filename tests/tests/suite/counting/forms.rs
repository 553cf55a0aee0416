//! Counts of guests whose port accesses are known (`tests/guests`).

use std::collections::BTreeMap;

use pvio::stats::{FormRow, PortRow, Snapshot};
use pvio::x86::{Direction, Mode, Port, PortForm, Width};
use pvio_cli::machine::Machine;
use pvio_tests::{
    GuestRun, GuestTest, Host, assert_forms, assert_forms_agree, guest, on_both_qemus, run_guest,
    without_exports, without_modules,
};

on_both_qemus! {
    every_form_is_counted_exactly_on_one_vcpu
    every_form_is_counted_exactly_on_four_vcpus
    four_vcpus_on_one_thread_keep_the_totals
    every_form_is_counted_exactly_with_icount
    every_form_is_counted_exactly_with_one_instruction_per_block
    every_form_is_counted_exactly_on_a_32_bit_target
    guest_that_powers_off_is_counted_to_the_end
    interrupts_within_reps_change_no_count
    interrupts_within_reps_change_no_count_with_icount
}

without_modules! {
    ; needs "how the machine ended":
    guest_that_powers_off_is_counted_to_the_end
    ; needs "a disassembler":
    qemu_without_exports_counts_the_same
    ; needs "a disassembler, or blocks of several instructions":
    every_form_is_counted_exactly_with_one_instruction_per_block
}

without_exports! {
    every_form_is_counted_exactly_on_one_vcpu
    every_form_is_counted_exactly_on_four_vcpus
    four_vcpus_on_one_thread_keep_the_totals
    every_form_is_counted_exactly_with_icount
    every_form_is_counted_exactly_on_a_32_bit_target
    interrupts_within_reps_change_no_count
    interrupts_within_reps_change_no_count_with_icount
    without_disassembly_no_form_is_counted_as_another
}

/// Without exports, QEMU's disassembly decides the forms. QEMU 10.2, as the tests have it, is built without a disassembler.
mod with_a_disassembler {
    mod on_api_4 {
        use super::super::*;

        #[test]
        fn one_instruction_per_block_is_counted_exactly() {
            every_form_is_counted_exactly_with_one_instruction_per_block(
                &Host::STABLE.without_exports(),
            );
        }

        #[test]
        fn qemu_without_exports_counts_the_same() {
            super::super::qemu_without_exports_counts_the_same(&Host::STABLE);
        }
    }

    mod on_api_7 {
        use super::super::*;

        #[test]
        fn one_instruction_per_block_is_counted_exactly() {
            every_form_is_counted_exactly_with_one_instruction_per_block(
                &Host::NEWEST.without_exports(),
            );
        }

        #[test]
        fn qemu_without_exports_counts_the_same() {
            super::super::qemu_without_exports_counts_the_same(&Host::NEWEST);
        }
    }
}

fn forms_guest(machine: Machine) -> GuestRun {
    run_guest(machine.plugin(&[&format!("symbols={}", guest("forms.elf").display())]), "forms")
}

/// The dump of a run, after a check of the QEMU that ran.
fn checked(host: &Host, run: &GuestRun) -> Snapshot {
    let stats = run.stats().clone();
    assert_eq!(stats.qemu.plugin_api, host.api);
    stats
}

/// On a QEMU that exports nothing, what is not decided must be what is missing.
fn assert_counted(host: &Host, stats: &Snapshot, vcpus: u64, modes: &[Mode]) {
    match host.exports {
        true => assert_forms(stats, vcpus, modes),
        false => assert_forms_agree(stats, vcpus, modes),
    }
}

fn every_form_is_counted_exactly_on_one_vcpu(host: &Host) {
    let stats = checked(host, &forms_guest(host.machine().args(["-accel", "tcg"])));
    assert_counted(host, &stats, 1, &Mode::ALL);
    let faults = stats.forms[0].faults;
    assert_eq!(faults.is_some(), host.reports_exceptions());
}

fn every_form_is_counted_exactly_on_four_vcpus(host: &Host) {
    let machine = host.machine().args(["-accel", "tcg,thread=multi", "-smp", "4"]);
    assert_counted(host, &checked(host, &forms_guest(machine)), 4, &Mode::ALL);
}

fn four_vcpus_on_one_thread_keep_the_totals(host: &Host) {
    let machine = host.machine().args(["-accel", "tcg,thread=single", "-smp", "4"]);
    let stats = checked(host, &forms_guest(machine));
    assert_counted(host, &stats, 4, &Mode::ALL);
    assert!(stats.vcpus.is_empty());
    let why = stats.vcpus_omitted.expect("a reason");
    assert!(why.contains("thread=single"), "{why}");
}

fn every_form_is_counted_exactly_with_icount(host: &Host) {
    let stats = checked(host, &forms_guest(host.machine().args(["-icount", "shift=0"])));
    assert_counted(host, &stats, 1, &Mode::ALL);
}

fn every_form_is_counted_exactly_with_one_instruction_per_block(host: &Host) {
    let machine = host.machine().args(["-accel", "tcg,one-insn-per-tb=on"]);
    assert_counted(host, &checked(host, &forms_guest(machine)), 1, &Mode::ALL);
}

fn every_form_is_counted_exactly_on_a_32_bit_target(host: &Host) {
    let machine = host.machine_of("qemu-system-i386").args(["-accel", "tcg", "-smp", "2"]);
    let stats = checked(host, &forms_guest(machine));
    assert_eq!(stats.qemu.target, "i386");
    assert_counted(host, &stats, 2, &[Mode::Bits16, Mode::Bits32]);
}

/// Neither exports nor a disassembly tell the mode: registers, and the lengths of instructions, decide most forms.
fn without_disassembly_no_form_is_counted_as_another(host: &Host) {
    let machine = host.machine().env("PVIO_TEST_WITHOUT_DISASSEMBLY", "1");
    let run = forms_guest(machine);
    let stats = checked(host, &run);
    assert_forms_agree(&stats, 1, &Mode::ALL);
    let undecided: u64 = stats.forms_undecided.iter().map(|row| row.executions).sum();
    let all: u64 = stats.form_counts().map(|row| row.executions).sum();
    assert!(undecided * 4 < all, "{undecided} of {all} are undecided");
    // One line says so, if there are any.
    let warned = run.ended.stderr.contains("cannot determine the mode of all code");
    assert_eq!(warned, undecided > 0, "{}", run.ended.stderr);
}

/// Without exports, the plugin learns a site's mode from the disassembly.
fn qemu_without_exports_counts_the_same(host: &Host) {
    let known = checked(host, &forms_guest(host.machine()));
    let run = forms_guest(host.machine_without_exports());
    assert_eq!(run.ended.stderr.matches("pvio: warning").count(), 1, "{}", run.ended.stderr);
    assert!(run.ended.without_exports().is_some(), "{}", run.ended.stderr);
    let blind = checked(host, &run);
    assert!(blind.forms_undecided.is_empty(), "{:?}", blind.forms_undecided);
    // The version is in QEMU's program. How a shutdown came about is not told.
    assert_eq!(blind.qemu.version, known.qemu.version);
    assert_eq!(blind.ended, "unknown");
    // Exits of nested guests are unknown.
    let without_exits = |row: &FormRow| FormRow { exits: None, ..row.clone() };
    assert_eq!(blind.forms, known.forms.iter().map(without_exits).collect::<Vec<_>>());
    // The device at a port is unknown, so its name is that of a PC's usual device.
    let usual = |name: &str| format!("({})", name.trim_matches(['(', ')'])).into();
    let told = |row: &PortRow| {
        let name = row.name.as_deref().map(usual);
        PortRow { served: None, name, ..row.clone() }
    };
    assert_eq!(blind.ports, known.ports.iter().map(told).collect::<Vec<_>>());
    // Only fw_cfg and the exit are devices.
    for row in &known.ports {
        assert_eq!(row.served, Some(matches!(row.port.0, 0xf4 | 0x510 | 0x511)), "{row:?}");
    }
    assert_eq!(blind.sites.len(), known.sites.len());
    for (blind, known) in blind.sites.iter().zip(&known.sites) {
        assert_eq!((&blind.pc, blind.form, blind.counts), (&known.pc, known.form, known.counts));
        assert!(blind.mode.is_none() || blind.mode == known.mode, "{blind:?}");
    }
}

type Ports<'a> = &'a [(u16, Direction, Width, u64)];

fn assert_ports(stats: &Snapshot, expected: Ports<'_>) {
    let counted: BTreeMap<_, _> =
        stats.ports.iter().map(|row| ((row.port, row.dir, row.size), row.qemu)).collect();
    let expected: BTreeMap<_, _> = expected
        .iter()
        .map(|&(port, dir, size, accesses)| ((Port(port), dir, size.into()), accesses))
        .collect();
    assert_eq!(counted, expected);
}

fn guest_that_powers_off_is_counted_to_the_end(host: &Host) {
    let run = GuestTest::new(host.machine().plugin(&[]), "poweroff").exit_status(0).run();
    let stats = run.stats();
    assert_eq!(stats.ended, "shutdown");
    use Direction::{In, Out};
    use Width::{Byte, Dword, Word};
    assert_ports(
        stats,
        &[
            (0x80, Out, Byte, 10),
            (0x5000, In, Byte, 3),
            (0xcf8, Out, Dword, 2),
            (0xcfc, Out, Dword, 1),
            (0xcfc, Out, Byte, 1),
            (0x604, Out, Word, 1),
        ],
    );
}

/// The ticks in the report of the guest `irq-rep`: `ticks=T inside=I`.
fn ticks(console: &str) -> Option<u64> {
    console.strip_prefix("ticks=")?.split(' ').next()?.parse().ok()
}

fn interrupts_within_reps(host: &Host, arguments: &[&str]) {
    let run = run_guest(host.machine().plugin(&[]).args(arguments), "irq-rep");
    let stats = checked(host, &run);
    let console = run.text();
    let ticks = ticks(&console).expect("the number of ticks");
    assert!(ticks > 0);

    let row = |form: PortForm| {
        let row = &stats.forms[form.index()];
        (row.attempts, row.executions, row.accesses)
    };
    assert_eq!(row(PortForm::RepInsb), (25, 25, 2_200_000));
    assert_eq!(row(PortForm::RepOutsb), (25, 25, 2_200_000));
    use Direction::{In, Out};
    use Width::Byte;
    assert_ports(
        &stats,
        &[
            (0x50f0, In, Byte, 2_200_000),
            (0x5150, Out, Byte, 2_200_000),
            (0x5090, Out, Byte, 25_000),
            (0x5030, In, Byte, 25_000),
            (0x20, Out, Byte, 1 + ticks),
            (0x21, Out, Byte, 4),
            (0xa0, Out, Byte, 1),
            (0xa1, Out, Byte, 4),
            (0x43, Out, Byte, 1),
            (0x40, Out, Byte, 2),
            (0xe9, Out, Byte, console.len() as u64),
            (0xf4, Out, Byte, 1),
        ],
    );
}

fn interrupts_within_reps_change_no_count(host: &Host) {
    interrupts_within_reps(host, &[]);
}

/// With `-icount`, QEMU interrupts a `rep` after each element.
fn interrupts_within_reps_change_no_count_with_icount(host: &Host) {
    interrupts_within_reps(host, &["-icount", "shift=0"]);
}
