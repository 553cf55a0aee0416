//! Nested guests, and the hypervisor that may intercept what they do.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::x86::{AddressSize, PhysicalMemory};

const VMCB: u64 = 0x2_3000;
const PORT_IO: u64 = 0x7b;
const GP: u64 = 0x4d;
const NESTED_PAGE_FAULT: u64 = 0x400;

/// The fields of one VMCB.
#[derive(Default)]
struct Memory {
    exit_code: AtomicU64,
    rip: AtomicU64,
    injected: AtomicU64,
}

impl PhysicalMemory for Memory {
    fn read_u32(&self, _: u64) -> Option<u32> {
        None
    }

    fn read_u64(&self, physical: u64) -> Option<u64> {
        match physical.wrapping_sub(VMCB) {
            0x70 => Some(self.exit_code.load(Ordering::Relaxed)),
            0xa8 => Some(self.injected.load(Ordering::Relaxed)),
            0x418 => Some(0),
            0x578 => Some(self.rip.load(Ordering::Relaxed)),
            _ => None,
        }
    }
}

/// A hypervisor whose nested guest is privileged.
fn hypervisor(rules: Rules) -> (Guest, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    let readable = Arc::clone(&memory) as SharedMemory;
    let mut guest = Guest::with(rules, Arc::default(), Some(readable));
    guest.privileged = true;
    (guest, memory)
}

/// The address of the hypervisor's VMRUN.
const VMRUN: u64 = 0x4_5000;

fn pass(guest: &mut Guest, site: VmrunSite, rax: u64) {
    let pc = match site {
        VmrunSite::Entry(..) => VMRUN,
        VmrunSite::Exit => VMRUN + 3,
    };
    let address = CodeAddress { base: 0, offset: (pc & 0xfff) as u16 };
    let registers = |register| match register {
        Register::Rip => pc,
        _ => rax,
    };
    guest.counter.passes(VmrunToken::new(site, address).into(), &mut Fixed(registers));
}

impl Guest {
    fn enter(&mut self, memory: &Memory, rip: u64) {
        memory.rip.store(rip, Ordering::Relaxed);
        pass(self, VmrunSite::Entry(AddressSize::Bits64, 3), VMCB);
    }

    fn leave(&mut self, memory: &Memory, exit_code: u64, rip: u64) {
        memory.exit_code.store(exit_code, Ordering::Relaxed);
        memory.rip.store(rip, Ordering::Relaxed);
        pass(self, VmrunSite::Exit, VMCB);
    }

    fn exits(&self, form: PortForm) -> u64 {
        self.snapshot().forms[form.index()].exits.unwrap()
    }
}

#[test]
fn intercepted_instruction_is_not_an_execution() {
    for rules in [API_7, API_4] {
        let (mut guest, memory) = hypervisor(rules);
        for _ in 0..3 {
            guest.enter(&memory, PC - 1);
            guest.start(OUT, PC);
            guest.rcx = 0;
            guest.start(REP_INSB, PC + 8);
            guest.leave(&memory, PORT_IO, PC + 8);
            guest.start(OUT, PC + 0x100);
            guest.enter(&memory, PC + 10);
            guest.rcx = 5;
            guest.start(REP_OUTSB, PC + 16);
            guest.leave(&memory, PORT_IO, PC + 16);
        }
        assert_eq!(guest.row(PortForm::OutDxAl), [6, 6, 6, 0, 0]);
        assert_eq!(guest.row(PortForm::RepInsb), [3, 0, 0, 0, 0]);
        assert_eq!(guest.row(PortForm::RepOutsb), [3, 0, 0, 0, 0]);
        let forms = [PortForm::OutDxAl, PortForm::RepInsb, PortForm::RepOutsb];
        assert_eq!(forms.map(|form| guest.exits(form)), [0, 3, 3]);
    }
}

#[test]
fn exit_proves_privilege_where_faults_are_not_reported() {
    let (mut guest, memory) = hypervisor(API_4);
    (guest.privileged, guest.cs) = (false, RING_3);
    guest.enter(&memory, PC - 1);
    guest.start(OUT, PC);
    guest.leave(&memory, PORT_IO, PC);
    assert_eq!(
        (guest.row(PortForm::OutDxAl), guest.exits(PortForm::OutDxAl)),
        ([1, 0, 0, 0, 0], 1)
    );
    guest.enter(&memory, PC - 1);
    guest.start(OUT, PC);
    guest.leave(&memory, GP, PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [2, 0, 0, 0, 1]);
}

#[test]
fn intercepted_exception_is_a_fault_until_the_guest_resumes() {
    let (mut guest, memory) = hypervisor(API_7);
    (guest.privileged, guest.cs) = (false, RING_3);
    guest.enter(&memory, PC - 1);
    guest.start(OUT, PC);
    guest.leave(&memory, GP, PC);
    assert_eq!(guest.row(PortForm::OutDxAl), [1, 0, 0, 1, 0]);
    guest.enter(&memory, PC);
    guest.start(OUT, PC);
    guest.leave(&memory, GP, PC + 1);
    assert_eq!(guest.row(PortForm::OutDxAl), [1, 1, 1, 0, 0]);
}

#[test]
fn injected_exception_does_not_resume_the_attempt() {
    let (mut guest, memory) = hypervisor(API_7);
    (guest.privileged, guest.cs) = (false, RING_3);
    for injected in [0x8000_0b0d, 0] {
        guest.enter(&memory, PC);
        guest.start(OUT, PC);
        guest.leave(&memory, GP, PC);
        memory.injected.store(injected, Ordering::Relaxed);
    }
    // The first time, the guest's handler has abandoned it, so the second is another attempt.
    assert_eq!(guest.row(PortForm::OutDxAl), [2, 0, 0, 2, 0]);
}

#[test]
fn nested_page_fault_does_not_end_the_attempt() {
    for rules in [API_7, API_4] {
        let (mut guest, memory) = hypervisor(rules);
        guest.enter(&memory, PC - 1);
        guest.rcx = 5;
        for moved in [0, 2] {
            let token = guest.start(REP_INSB, PC);
            guest.elements(token, moved);
            guest.leave(&memory, NESTED_PAGE_FAULT, PC);
            guest.start(OUT, PC + 0x100);
            guest.enter(&memory, PC);
        }
        let token = guest.start(REP_INSB, PC);
        guest.elements(token, 3);
        assert_eq!(guest.row(PortForm::RepInsb), [1, 1, 5, 0, 0]);
    }
}

/// The guest may have code at the same address.
#[test]
fn instruction_after_vmrun_is_an_exit_only_if_rax_is_the_vmcb() {
    let (mut guest, memory) = hypervisor(API_7);
    memory.exit_code.store(PORT_IO, Ordering::Relaxed);
    pass(&mut guest, VmrunSite::Exit, VMCB);
    guest.enter(&memory, PC);
    guest.start(OUT, PC);
    pass(&mut guest, VmrunSite::Exit, 0x1234);
    guest.leave(&memory, 0x81, PC + 1);
    assert_eq!(guest.row(PortForm::OutDxAl), [1, 1, 1, 0, 0]);
}

#[test]
fn vmrun_of_a_nested_guest_does_not_hide_its_own_exit() {
    let (mut guest, memory) = hypervisor(API_7);
    guest.enter(&memory, PC);
    pass(&mut guest, VmrunSite::Entry(AddressSize::Bits64, 3), 0x9000);
    guest.leave(&memory, 0x80, PC);
    guest.enter(&memory, PC);
    guest.start(OUT, PC);
    guest.leave(&memory, PORT_IO, PC);
    assert_eq!(
        (guest.row(PortForm::OutDxAl), guest.exits(PortForm::OutDxAl)),
        ([1, 0, 0, 0, 0], 1)
    );
}

#[test]
fn exit_leaves_the_last_attempt_unverified_where_memory_cannot_be_read() {
    let memory = Memory::default();
    let mut guest = Guest::on_api_4();
    guest.privileged = true;
    guest.enter(&memory, PC);
    guest.start(OUT, PC);
    guest.start(OUT, PC + 1);
    guest.leave(&memory, PORT_IO, PC + 1);
    assert_eq!(guest.row(PortForm::OutDxAl), [2, 1, 1, 0, 1]);
}
