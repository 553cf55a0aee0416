//! Instructions that fault, or may have faulted.

use super::*;

#[test]
fn scalar_that_faults_is_not_an_execution() {
    let mut guest = Guest::on_api_7();
    guest.start(OUT, PC);
    guest.exception_at(PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [1, 0, 0, 1, 0]);
}

#[test]
fn exception_or_interrupt_after_a_scalar_is_not_its_fault() {
    let mut guest = Guest::on_api_7();
    guest.start(OUT, PC);
    guest.exception_at(PC + 1);
    guest.exception_at(PC);
    guest.start(OUT, PC);
    guest.interrupt_at(PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [2, 2, 2, 0, 0]);
}

/// A triple fault, which may end the machine without another report.
#[test]
fn exception_that_is_never_delivered_leaves_the_scalar_unverified() {
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
fn privilege_decides_where_faults_are_not_reported() {
    let mut guest = Guest::on_api_4();
    guest.cs = RING_3;
    guest.start(OUT, PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [1, 0, 0, 0, 1]);
    guest.rflags |= 3 << 12;
    guest.start(OUT, PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [2, 1, 1, 0, 1]);
}

#[test]
fn page_fault_after_which_a_rep_resumes_is_not_counted() {
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
fn page_fault_after_which_a_rep_is_abandoned_is_counted_with_its_accesses() {
    let mut guest = Guest::on_api_7();
    guest.rcx = 10;
    let token = guest.start(REP_INSB, PC);
    guest.elements(token, 4);
    // The dummy store of the fifth element succeeds; the element is not moved.
    guest.counter.memory_accessed(token, || 0);
    guest.exception_at(PC);
    guest.rcx = 10;
    let token = guest.start(REP_INSB, PC);
    guest.elements(token, 10);
    assert_eq!(guest.row(PortForm::RepInsb), [2, 1, 14, 1, 0]);
}

#[test]
fn start_with_the_count_of_an_abandoned_rep_is_a_new_attempt() {
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
fn load_from_the_tss_is_not_an_element() {
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
fn scalar_that_resumes_after_a_fault_is_one_attempt() {
    let mut guest = Guest::on_api_7();
    guest.start(OUT, PC);
    guest.exception_at(PC);
    guest.start(OUT, PC + 0x100);
    guest.rflags |= Rflags::RESUME.bits();
    guest.start(OUT, PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [2, 2, 2, 0, 0]);
    // Its handler abandons it, and it is tried again.
    guest.exception_at(PC);
    guest.rflags &= !Rflags::RESUME.bits();
    guest.start(OUT, PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [3, 2, 2, 1, 0]);
}

#[test]
fn trap_after_an_element_is_not_a_fault() {
    let mut guest = Guest::on_api_7();
    guest.rflags |= Rflags::TRAP.bits();
    guest.rcx = 2;
    let token = guest.start(REP_INSB, PC);
    guest.elements(token, 1);
    guest.exception_at(PC);
    assert_eq!(guest.row(PortForm::RepInsb), [1, 0, 1, 0, 0]);
}

#[test]
fn breakpoint_on_a_privileged_scalar_in_a_loop_is_not_a_fault() {
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
fn unverified_scalar_that_resumes_is_one_attempt() {
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
fn rep_of_count_zero_that_resumes_after_a_fault_is_one_attempt() {
    let mut guest = Guest::on_api_7();
    guest.start(REP_INSB, PC);
    guest.exception_at(PC);
    guest.rflags |= Rflags::RESUME.bits();
    guest.start(REP_INSB, PC);
    assert_eq!(guest.row(PortForm::RepInsb), [1, 1, 0, 0, 0]);
}

#[test]
fn start_without_rf_is_a_new_attempt_where_faults_are_not_reported() {
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
