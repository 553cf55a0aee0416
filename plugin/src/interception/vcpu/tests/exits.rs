//! A guest of the guest's, and the hypervisor that may intercept what it does.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::interception::nested::{VmrunSite, VmrunSiteKind};
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

/// A hypervisor on this QEMU, whose guest is privileged.
fn hypervisor(mut guest: Guest) -> (Guest, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    guest.counter.nested = NestedGuests::new(Some(Arc::clone(&memory) as _));
    guest.privileged = true;
    (guest, memory)
}

/// Where the hypervisor executes VMRUN.
const VMRUN: u64 = 0x4_5000;

fn pass(guest: &mut Guest, kind: VmrunSiteKind, rax: u64) {
    let pc = match kind {
        VmrunSiteKind::Entry(..) => VMRUN,
        VmrunSiteKind::Exit => VMRUN + 3,
    };
    let address = CodeAddress { base: 0, offset: (pc & 0xfff) as u16 };
    let registers = |register| match register {
        Register::Rip => pc,
        _ => rax,
    };
    let door = VmrunSite { kind, address };
    guest.counter.passes(door.to_token(), &mut Fixed(registers));
}

impl Guest {
    fn enter(&mut self, memory: &Memory, rip: u64) {
        memory.rip.store(rip, Ordering::Relaxed);
        pass(self, VmrunSiteKind::Entry(AddressSize::Bits64, 3), VMCB);
    }

    fn leave(&mut self, memory: &Memory, exit_code: u64, rip: u64) {
        memory.exit_code.store(exit_code, Ordering::Relaxed);
        memory.rip.store(rip, Ordering::Relaxed);
        pass(self, VmrunSiteKind::Exit, VMCB);
    }

    fn exits(&self, form: PortForm) -> u64 {
        self.snapshot().forms[form.index()].exits.unwrap()
    }
}

#[test]
fn what_is_intercepted_has_not_run() {
    for guest in [Guest::on_api_7(), Guest::on_api_4()] {
        let (mut guest, memory) = hypervisor(guest);
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
fn where_faults_are_not_reported_an_exit_proves_the_privilege() {
    let (mut guest, memory) = hypervisor(Guest::on_api_4());
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
fn an_exception_that_the_hypervisor_takes_is_a_fault_until_it_is_mended() {
    let (mut guest, memory) = hypervisor(Guest::on_api_7());
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
fn an_injected_exception_leads_elsewhere() {
    let (mut guest, memory) = hypervisor(Guest::on_api_7());
    (guest.privileged, guest.cs) = (false, RING_3);
    for injected in [0x8000_0b0d, 0] {
        guest.enter(&memory, PC);
        guest.start(OUT, PC);
        guest.leave(&memory, GP, PC);
        memory.injected.store(injected, Ordering::Relaxed);
    }
    // The first time its handler has given it up, and it is another attempt.
    assert_eq!(guest.row(PortForm::OutDxAl), [2, 0, 0, 2, 0]);
}

#[test]
fn a_page_that_the_hypervisor_puts_there_is_no_end() {
    for guest in [Guest::on_api_7(), Guest::on_api_4()] {
        let (mut guest, memory) = hypervisor(guest);
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

/// Such as the guest's own code at the same address.
#[test]
fn the_place_behind_vmrun_is_no_exit_unless_rax_is_the_vmcb() {
    let (mut guest, memory) = hypervisor(Guest::on_api_7());
    memory.exit_code.store(PORT_IO, Ordering::Relaxed);
    pass(&mut guest, VmrunSiteKind::Exit, VMCB);
    guest.enter(&memory, PC);
    guest.start(OUT, PC);
    pass(&mut guest, VmrunSiteKind::Exit, 0x1234);
    guest.leave(&memory, 0x81, PC + 1);
    assert_eq!(guest.row(PortForm::OutDxAl), [1, 1, 1, 0, 0]);
}

#[test]
fn a_vmrun_of_the_guest_does_not_hide_its_own_exit() {
    let (mut guest, memory) = hypervisor(Guest::on_api_7());
    guest.enter(&memory, PC);
    pass(&mut guest, VmrunSiteKind::Entry(AddressSize::Bits64, 3), 0x9000);
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
fn where_memory_cannot_be_read_an_exit_leaves_it_open() {
    let (mut guest, memory) = hypervisor(Guest::on_api_4());
    guest.counter.nested = NestedGuests::new(None);
    guest.enter(&memory, PC);
    guest.start(OUT, PC);
    guest.start(OUT, PC + 1);
    guest.leave(&memory, PORT_IO, PC + 1);
    assert_eq!(guest.row(PortForm::OutDxAl), [2, 1, 1, 0, 1]);
}
