//! Strings that are interrupted, and resume.

use super::*;

#[test]
fn rep_resumes_after_an_interrupt_whose_handler_does_io() {
    for mut guest in [Guest::on_api_7(), Guest::on_api_4()] {
        guest.rcx = 10;
        let token = guest.start(REP_INSB, PC);
        guest.elements(token, 4);
        if guest.exceptions_reported {
            guest.interrupt_at(PC);
        }
        guest.start(OUT, PC + 0x100);
        guest.rflags |= Rflags::RESUME.bits();
        let token = guest.start(REP_INSB, PC);
        guest.elements(token, 6);
        assert_eq!(guest.row(PortForm::RepInsb), [1, 1, 10, 0, 0]);
        assert_eq!(guest.row(PortForm::OutDxAl), [1, 1, 1, 0, 0]);
    }
}

#[test]
fn nested_handlers_each_resume_their_own_string() {
    let mut guest = Guest::on_api_7();
    guest.rcx = 10;
    let outer = guest.start(REP_OUTSB, PC);
    guest.elements(outer, 1);
    guest.interrupt_at(PC);
    let outer_left = std::mem::replace(&mut guest.rcx, 20);
    let inner = guest.start(REP_OUTSB, PC + 0x100);
    guest.elements(inner, 2);
    guest.interrupt_at(PC + 0x100);
    guest.rflags |= Rflags::RESUME.bits();
    let inner = guest.start(REP_OUTSB, PC + 0x100);
    guest.elements(inner, 18);
    guest.rcx = outer_left;
    let outer = guest.start(REP_OUTSB, PC);
    guest.elements(outer, 9);
    assert_eq!(guest.row(PortForm::RepOutsb), [2, 2, 30, 0, 0]);
}

#[test]
fn elements_count_even_if_too_many_reps_are_interrupted() {
    let mut guest = Guest::on_api_7();
    for n in 0..100 {
        guest.rcx = 5;
        let token = guest.start(REP_OUTSB, PC + n);
        guest.elements(token, 1);
        guest.interrupt_at(PC + n);
    }
    assert_eq!(guest.row(PortForm::RepOutsb), [100, 0, 100, 0, 0]);
}

#[test]
fn another_port_is_another_attempt() {
    let mut guest = Guest::on_api_4();
    guest.rcx = 10;
    let token = guest.start(REP_OUTSB, PC);
    guest.elements(token, 3);
    guest.rcx = 7;
    guest.rdx = 0x5001;
    let token = guest.start(REP_OUTSB, PC);
    guest.elements(token, 7);
    assert_eq!(guest.row(PortForm::RepOutsb), [2, 1, 10, 0, 0]);
    let ports: Vec<_> = guest.snapshot().ports.iter().map(|row| (row.port.0, row.qemu)).collect();
    assert_eq!(ports, [(0x5000, 3), (0x5001, 7)]);
}

#[test]
fn rep_may_resume_on_another_vcpu() {
    let interrupted = Arc::new(InterruptedStrings::default());
    let mut guests = [(); 2].map(|()| Guest::with(API_7, Arc::clone(&interrupted), None));
    for guest in &guests {
        // Both have the same number for the site.
        guest.token(REP_OUTSB, PC);
    }
    let [first, second] = &mut guests;
    first.rcx = 10;
    let token = first.start(REP_OUTSB, PC);
    first.elements(token, 4);
    first.interrupt_at(PC);
    second.rcx = 6;
    let token = second.start(REP_OUTSB, PC);
    second.elements(token, 6);
    assert_eq!(first.row(PortForm::RepOutsb), [1, 0, 4, 0, 0]);
    assert_eq!(second.row(PortForm::RepOutsb), [0, 1, 6, 0, 0]);
}
