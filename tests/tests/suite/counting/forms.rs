//! Counts of guests whose programs are known (`tests/guests`), on both QEMUs.

use std::collections::BTreeMap;

use pvio::stats::{FormRow, PortRow, Snapshot};
use pvio::x86::{Direction, Mode, Port, PortForm, Width};
use pvio_cli::machine::Machine;
use pvio_tests::{
    GuestRun, Host, assert_consistent, assert_forms, guest, on_both_qemus, run_guest,
};

on_both_qemus! {
    every_form_in_every_mode_on_one_vcpu
    every_form_in_every_mode_on_four_vcpus
    four_vcpus_on_one_thread_keep_the_totals
    every_form_in_every_mode_with_icount
    every_form_with_one_instruction_in_a_block
    every_form_on_a_32_bit_target
    a_qemu_that_exports_nothing_of_its_own_counts_the_same
    a_guest_that_powers_off_is_counted_to_the_end
    interrupts_within_reps_make_no_difference
    interrupts_within_reps_make_no_difference_with_icount
}

fn forms_guest(machine: Machine) -> GuestRun {
    run_guest(machine.plugin(&[&format!("symbols={}", guest("forms.elf").display())]), "forms")
}

/// The counts of a run in which the guest's own checks passed.
fn checked(host: &Host, run: &GuestRun) -> Snapshot {
    let stats = run.stats().clone();
    assert_eq!(stats.qemu.plugin_api, host.api);
    stats
}

fn every_form_in_every_mode_on_one_vcpu(host: &Host) {
    let stats = checked(host, &forms_guest(host.machine().args(["-accel", "tcg"])));
    assert_forms(&stats, 1, &Mode::ALL);
    let faults = stats.forms[0].faults;
    assert_eq!(faults.is_some(), host.reports_exceptions());
}

fn every_form_in_every_mode_on_four_vcpus(host: &Host) {
    let machine = host.machine().args(["-accel", "tcg,thread=multi", "-smp", "4"]);
    assert_forms(&checked(host, &forms_guest(machine)), 4, &Mode::ALL);
}

fn four_vcpus_on_one_thread_keep_the_totals(host: &Host) {
    let machine = host.machine().args(["-accel", "tcg,thread=single", "-smp", "4"]);
    let stats = checked(host, &forms_guest(machine));
    assert_forms(&stats, 4, &Mode::ALL);
    assert!(stats.vcpus.is_empty());
    let why = stats.vcpus_omitted.expect("a reason");
    assert!(why.contains("thread=single"), "{why}");
}

fn every_form_in_every_mode_with_icount(host: &Host) {
    let stats = checked(host, &forms_guest(host.machine().args(["-icount", "shift=0"])));
    assert_forms(&stats, 1, &Mode::ALL);
}

fn every_form_with_one_instruction_in_a_block(host: &Host) {
    let machine = host.machine().args(["-accel", "tcg,one-insn-per-tb=on"]);
    assert_forms(&checked(host, &forms_guest(machine)), 1, &Mode::ALL);
}

fn every_form_on_a_32_bit_target(host: &Host) {
    let machine =
        Machine::new(&host.program("qemu-system-i386")).args(["-accel", "tcg", "-smp", "2"]);
    let stats = checked(host, &forms_guest(machine));
    assert_eq!(stats.qemu.target, "i386");
    assert_forms(&stats, 2, &[Mode::Bits16, Mode::Bits32]);
}

/// As a QEMU does that was built without loadable modules: then the disassembly has to tell modes.
fn a_qemu_that_exports_nothing_of_its_own_counts_the_same(host: &Host) {
    let known = checked(host, &forms_guest(host.machine()));
    let run = forms_guest(host.machine().env("PVIO_TEST_WITHOUT_EXPORTS", "1"));
    assert!(!run.ended.stderr.contains("warning"), "{}", run.ended.stderr);
    let blind = checked(host, &run);
    assert_eq!((blind.qemu.version.as_deref(), &*blind.ended), (None, "unknown"));
    // Nor does it let the exits of a nested guest be told.
    let told = |row: &FormRow| FormRow { exits: None, ..row.clone() };
    assert_eq!(blind.forms, known.forms.iter().map(told).collect::<Vec<_>>());
    // What is at a port is not known, but what a PC has there usually.
    let usual = |name: &str| format!("({})", name.trim_matches(['(', ')'])).into();
    let told = |row: &PortRow| {
        let name = row.name.as_deref().map(usual);
        PortRow { served: None, name, ..row.clone() }
    };
    assert_eq!(blind.ports, known.ports.iter().map(told).collect::<Vec<_>>());
    // Nothing is behind the ports of the forms; fw_cfg and the exit are.
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
        .map(|&(port, dir, size, accesses)| ((Port(port), dir, size), accesses))
        .collect();
    assert_eq!(counted, expected);
}

fn a_guest_that_powers_off_is_counted_to_the_end(host: &Host) {
    let machine = host.machine().plugin(&[]).bare_guest(&guest("poweroff.bin"));
    let ended = machine.run().unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    let stats = ended.stats().unwrap();
    assert_consistent(stats);
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

/// What the guest `irq-rep` says of itself: `ticks=T inside=I`.
fn ticks(console: &str) -> Option<u64> {
    console.strip_prefix("ticks=")?.split(' ').next()?.parse().ok()
}

fn interrupts_within_reps(host: &Host, arguments: &[&str]) {
    let run = run_guest(host.machine().plugin(&[]).args(arguments), "irq-rep");
    let stats = checked(host, &run);
    let console = run.text();
    let ticks = ticks(&console).expect("the guest tells its ticks");
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

fn interrupts_within_reps_make_no_difference(host: &Host) {
    interrupts_within_reps(host, &[]);
}

/// Here QEMU stops after each element.
fn interrupts_within_reps_make_no_difference_with_icount(host: &Host) {
    interrupts_within_reps(host, &["-icount", "shift=0"]);
}
