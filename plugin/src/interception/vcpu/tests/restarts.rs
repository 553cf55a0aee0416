//! Instructions that QEMU itself restarts.

use super::*;

#[test]
fn long_rep_that_qemu_pauses_is_one_attempt() {
    let mut guest = Guest::on_api_7();
    guest.rcx = 200_000;
    for part in [65_536, 65_536, 65_536, 3_392] {
        let token = guest.start(REP_OUTSB, PC);
        guest.elements(token, part);
        guest.rflags |= Rflags::RESUME.bits();
    }
    assert_eq!(guest.row(PortForm::RepOutsb), [1, 1, 200_000, 0, 0]);
}

#[test]
fn ins_that_overwrites_its_own_block_is_one_attempt() {
    let mut guest = Guest::on_api_7();
    // The dummy store discards the block before it is reported, and the instruction starts over.
    guest.start(INSB, PC);
    let token = guest.start(INSB, PC);
    guest.elements(token, 1);
    assert_eq!(guest.row(PortForm::Insb), [1, 1, 1, 0, 0]);
}

/// Moves three elements, one in each report, and restarts the `rep` with count 0.
fn step_through_a_rep(guest: &mut Guest, between: impl Fn(&mut Guest)) {
    guest.rcx = 3;
    for _ in 0..3 {
        let token = guest.start(REP_OUTSB, PC);
        guest.elements(token, 1);
        between(guest);
    }
    guest.start(REP_OUTSB, PC);
}

#[test]
fn restart_with_count_zero_after_single_steps_is_not_an_execution() {
    for mut guest in [Guest::on_api_7(), Guest::on_api_4()] {
        guest.rflags |= Rflags::TRAP.bits();
        // The handler of the trap does I/O and returns by a 16-bit IRET, which drops RF.
        step_through_a_rep(&mut guest, |guest| {
            if guest.exceptions_reported {
                guest.exception_at(PC);
            }
            guest.start(OUT, PC + 0x100);
        });
        assert_eq!(guest.row(PortForm::RepOutsb), [1, 1, 3, 0, 0]);
        assert_eq!(guest.row(PortForm::OutDxAl)[..3], [3, 3, 3]);
    }
}

#[test]
fn restart_with_count_zero_under_icount_is_not_an_execution() {
    for exceptions_reported in [true, false] {
        let mut guest =
            Guest::new(Rules { exceptions_reported, steps_reps: true, adds_ignored_bases: false });
        for _ in 0..2 {
            step_through_a_rep(&mut guest, |_| ());
        }
        guest.rcx = 0;
        guest.start(REP_OUTSB, PC);
        assert_eq!(guest.row(PortForm::RepOutsb)[..3], [3, 3, 6]);
    }
}

#[test]
fn restart_with_count_zero_after_sti_is_not_an_execution() {
    let mut guest = Guest::on_api_7();
    guest.rcx = 1;
    let token = guest.start(REP_OUTSB, PC);
    guest.elements(token, 1);
    guest.rflags |= Rflags::RESUME.bits();
    guest.start(REP_OUTSB, PC);
    assert_eq!(guest.row(PortForm::RepOutsb), [1, 1, 1, 0, 0]);
}

/// A hardware interrupt just before the instruction also sets RF.
#[test]
fn count_zero_with_rf_set_is_an_execution() {
    for mut guest in [Guest::on_api_7(), Guest::on_api_4()] {
        guest.rflags |= Rflags::RESUME.bits();
        for _ in 0..2 {
            guest.interrupt_at(PC);
            guest.start(REP_INSB, PC);
        }
        assert_eq!(guest.row(PortForm::RepInsb)[..3], [2, 2, 0]);
    }
}
