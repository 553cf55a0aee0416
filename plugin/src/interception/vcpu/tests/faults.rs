//! Instructions that fault, may fault, or are suspected of it.

use super::*;

#[test]
fn a_scalar_that_faults_is_taken_back() {
    let mut guest = Guest::on_api_7();
    guest.start(OUT, PC);
    guest.exception_at(PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [1, 0, 0, 1, 0]);
}

#[test]
fn what_happens_after_a_scalar_is_not_its_fault() {
    let mut guest = Guest::on_api_7();
    guest.start(OUT, PC);
    guest.exception_at(PC + 1);
    guest.exception_at(PC);
    guest.start(OUT, PC);
    guest.interrupt_at(PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [2, 2, 2, 0, 0]);
}

/// A triple fault, by which the machine may end: no report need follow.
#[test]
fn an_exception_that_is_never_delivered_leaves_it_open() {
    let mut guest = Guest::on_api_7();
    guest.start(OUT, PC);
    guest.counter.discontinuity(Discontinuity::Exception);
    assert_eq!(guest.row(PortForm::OutDxAl), [1, 0, 0, 0, 1]);
    guest.start(OUT, PC);
    guest.counter.discontinuity(Discontinuity::Exception);
    guest.counter.discontinuity(Discontinuity::Exception);
    guest.counter.discontinuity(Discontinuity::Delivered { from: PC + 1 });
    assert_eq!(guest.row(PortForm::OutDxAl), [2, 1, 1, 0, 1]);
    guest.privileged = true;
    guest.start(OUT, PC);
    guest.counter.discontinuity(Discontinuity::Exception);
    assert_eq!(guest.row(PortForm::OutDxAl), [3, 2, 2, 0, 1]);
}

#[test]
fn where_faults_are_not_reported_privilege_decides() {
    let mut guest = Guest::on_api_4();
    guest.cs = RING_3;
    guest.start(OUT, PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [1, 0, 0, 0, 1]);
    guest.rflags |= 3 << 12;
    guest.start(OUT, PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [2, 1, 1, 0, 1]);
}

#[test]
fn a_page_fault_in_the_middle_that_is_mended_is_no_fault() {
    let mut guest = Guest::on_api_7();
    guest.rcx = 10;
    let token = guest.start(REP_INSB, PC);
    guest.elements(token, 4);
    guest.exception_at(PC);
    assert_eq!(guest.row(PortForm::RepInsb), [1, 0, 4, 1, 0]);
    guest.start(OUT, PC + 0x100);
    guest.rflags |= Rflags::RESUME.bits();
    let token = guest.start(REP_INSB, PC);
    guest.elements(token, 6);
    assert_eq!(guest.row(PortForm::RepInsb), [1, 1, 10, 0, 0]);
}

#[test]
fn a_page_fault_that_is_not_mended_is_a_fault_and_its_accesses_count() {
    let mut guest = Guest::on_api_7();
    guest.rcx = 10;
    let token = guest.start(REP_INSB, PC);
    guest.elements(token, 4);
    // The dummy store of the fifth element has gone through, the element has not.
    guest.counter.memory_accessed(token, || 0);
    guest.exception_at(PC);
    guest.rcx = 10;
    let token = guest.start(REP_INSB, PC);
    guest.elements(token, 10);
    assert_eq!(guest.row(PortForm::RepInsb), [2, 1, 14, 1, 0]);
}

#[test]
fn a_start_with_the_count_of_an_abandoned_rep_is_a_start() {
    let mut guest = Guest::on_api_7();
    guest.rcx = 10;
    guest.start(REP_INSB, PC);
    guest.exception_at(PC);
    guest.start(OUT, PC + 0x100);
    guest.rflags &= !Rflags::RESUME.bits();
    let token = guest.start(REP_INSB, PC);
    guest.elements(token, 10);
    assert_eq!(guest.row(PortForm::RepInsb), [2, 1, 10, 1, 0]);
}

#[test]
fn reading_the_tss_is_no_element() {
    for mut guest in [Guest::on_api_7(), Guest::on_api_4()] {
        guest.cs = RING_3;
        for code in [&[0x6e][..], INSB, REP_OUTSB, REP_INSB] {
            guest.rcx = 5;
            let token = guest.start(code, PC);
            guest.permission_check(token);
            if guest.exceptions_reported {
                guest.exception_at(PC);
            }
        }
        for form in [PortForm::Outsb, PortForm::Insb, PortForm::RepOutsb, PortForm::RepInsb] {
            assert_eq!(guest.row(form)[..3], [1, 0, 0], "{form}");
            assert_eq!(guest.row(form)[3], u64::from(guest.exceptions_reported), "{form}");
        }
        guest.rcx = 5;
        let token = guest.start(REP_OUTSB, PC + 8);
        guest.elements(token, 5);
        assert_eq!(guest.row(PortForm::RepOutsb)[1..3], [1, 5]);
    }
}

#[test]
fn a_scalar_whose_fault_is_mended_is_one_attempt() {
    let mut guest = Guest::on_api_7();
    guest.start(OUT, PC);
    guest.exception_at(PC);
    guest.start(OUT, PC + 0x100);
    guest.rflags |= Rflags::RESUME.bits();
    guest.start(OUT, PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [2, 2, 2, 0, 0]);
    // Given up, and tried again.
    guest.exception_at(PC);
    guest.rflags &= !Rflags::RESUME.bits();
    guest.start(OUT, PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [3, 2, 2, 1, 0]);
}

#[test]
fn a_trap_after_an_element_is_no_fault() {
    let mut guest = Guest::on_api_7();
    guest.rflags |= Rflags::TRAP.bits();
    guest.rcx = 2;
    let token = guest.start(REP_INSB, PC);
    guest.elements(token, 1);
    guest.exception_at(PC);
    assert_eq!(guest.row(PortForm::RepInsb), [1, 0, 1, 0, 0]);
}

#[test]
fn a_breakpoint_on_a_privileged_scalar_that_loops_takes_nothing_back() {
    let mut guest = Guest::on_api_7();
    guest.privileged = true;
    for _ in 0..5 {
        guest.exception_at(PC);
        guest.rflags |= Rflags::RESUME.bits();
        guest.start(OUT, PC);
    }
    assert_eq!(guest.row(PortForm::OutDxAl), [5, 5, 5, 0, 0]);
}

#[test]
fn what_cannot_be_verified_is_taken_up_as_the_same_attempt_too() {
    let mut guest = Guest::on_api_4();
    guest.cs = RING_3;
    guest.start(OUT, PC);
    guest.rflags |= Rflags::RESUME.bits();
    guest.start(OUT, PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [1, 0, 0, 0, 1]);
    guest.rflags &= !Rflags::RESUME.bits();
    guest.start(OUT, PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [2, 0, 0, 0, 2]);
}

#[test]
fn a_rep_of_count_zero_that_was_refused_is_taken_up() {
    let mut guest = Guest::on_api_7();
    guest.start(REP_INSB, PC);
    guest.exception_at(PC);
    guest.rflags |= Rflags::RESUME.bits();
    guest.start(REP_INSB, PC);
    assert_eq!(guest.row(PortForm::RepInsb), [1, 1, 0, 0, 0]);
}

#[test]
fn where_faults_are_not_reported_a_new_start_after_one_shows_no_rf() {
    let mut guest = Guest::on_api_4();
    for with_other_io_between in [false, true] {
        guest.rcx = 3;
        guest.start(REP_OUTSB, PC);
        if with_other_io_between {
            guest.start(OUT, PC + 0x100);
        }
    }
    let token = guest.start(REP_OUTSB, PC);
    guest.elements(token, 3);
    assert_eq!(guest.row(PortForm::RepOutsb), [3, 1, 3, 0, 0]);
}
