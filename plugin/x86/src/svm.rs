//! AMD SVM: the instruction that enters a nested guest, and the VMCB, which has the reason for the guest's exit.
//!
//! Source: APM vol. 2, chapter 15 and appendices B and C.

use super::{AddressSize, Mode, PhysicalMemory, Prefix};

/// VMRUN.
const VMRUN: [u8; 3] = [0x0f, 0x01, 0xd8];

/// Returns true if the bytes of one instruction are VMRUN, with or without prefixes.
pub fn is_vmrun(bytes: &[u8]) -> bool {
    let is_prefix = |&byte: &u8| !matches!(Prefix::of(byte), None | Some(Prefix::Lock));
    bytes.strip_suffix(&VMRUN).is_some_and(|prefixes| prefixes.iter().all(is_prefix))
}

/// Returns how much of RAX is the VMCB address of a VMRUN in code of a mode: RAX or EAX.
pub fn vmrun_address_size(bytes: &[u8], mode: Mode) -> AddressSize {
    let has_prefix = bytes.iter().any(|&byte| Prefix::of(byte) == Some(Prefix::AddressSize));
    match AddressSize::of(mode, has_prefix) {
        AddressSize::Bits64 => AddressSize::Bits64,
        // 16-bit addresses take EAX too.
        AddressSize::Bits32 | AddressSize::Bits16 => AddressSize::Bits32,
    }
}

/// Why a nested guest exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestExit {
    /// The I/O permission map intercepted a port access before the instruction did anything.
    PortIo,
    /// The hypervisor intercepted an exception. It was raised by the instruction at this linear address, or before it.
    Exception(u64),
    /// Any other reason.
    Other,
}

/// The virtual machine control block of a nested guest, by its physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vmcb(pub u64);

impl Vmcb {
    const EXIT_CODE: u64 = 0x70;
    const EVENT_INJECTION: u64 = 0xa8;
    const CS_BASE: u64 = 0x418;
    const RIP: u64 = 0x578;

    /// `EVENTINJ.V`.
    const INJECTED: u64 = 1 << 31;

    /// Returns why the guest last exited; `None` if the VMCB is not in memory.
    pub fn exit(self, memory: &dyn PhysicalMemory) -> Option<GuestExit> {
        Some(match self.read(memory, Self::EXIT_CODE)? {
            0x7b => GuestExit::PortIo,
            0x40..=0x5f => GuestExit::Exception(self.next_instruction(memory)?),
            _ => GuestExit::Other,
        })
    }

    /// Returns the linear address at which the guest resumes when it is entered.
    ///
    /// `None` if an event is injected, which leads elsewhere, or if the VMCB is not in memory.
    pub fn entry(self, memory: &dyn PhysicalMemory) -> Option<u64> {
        let is_injected = self.read(memory, Self::EVENT_INJECTION)? & Self::INJECTED != 0;
        if is_injected { None } else { self.next_instruction(memory) }
    }

    fn next_instruction(self, memory: &dyn PhysicalMemory) -> Option<u64> {
        let base = self.read(memory, Self::CS_BASE)?;
        Some(base.wrapping_add(self.read(memory, Self::RIP)?))
    }

    fn read(self, memory: &dyn PhysicalMemory, offset: u64) -> Option<u64> {
        memory.read_u64(self.0.wrapping_add(offset))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Memory(BTreeMap<u64, u64>);

    impl PhysicalMemory for Memory {
        fn read_u32(&self, _: u64) -> Option<u32> {
            None
        }

        fn read_u64(&self, physical: u64) -> Option<u64> {
            self.0.get(&physical).copied()
        }
    }

    #[test]
    fn vmrun_may_have_prefixes() {
        assert!(is_vmrun(&[0x0f, 0x01, 0xd8]));
        assert!(is_vmrun(&[0x67, 0x0f, 0x01, 0xd8]));
        assert!(!is_vmrun(&[0x0f, 0x01, 0xd9]), "vmmcall");
        assert!(!is_vmrun(&[0xb8, 0x00, 0x0f, 0x01, 0xd8]), "mov eax,0xd8010f00");
        assert!(!is_vmrun(&[0xf0, 0x0f, 0x01, 0xd8]), "undefined with LOCK");
    }

    #[test]
    fn vmrun_takes_rax_in_64_bit_code_without_an_address_size_prefix() {
        let with_prefix = [0x67, 0x0f, 0x01, 0xd8];
        assert_eq!(vmrun_address_size(&VMRUN, Mode::Bits64), AddressSize::Bits64);
        assert_eq!(vmrun_address_size(&with_prefix, Mode::Bits64), AddressSize::Bits32);
        assert_eq!(vmrun_address_size(&VMRUN, Mode::Bits32), AddressSize::Bits32);
        assert_eq!(vmrun_address_size(&with_prefix, Mode::Bits32), AddressSize::Bits32);
    }

    #[test]
    fn the_vmcb_says_why_the_guest_exited_and_where_it_resumes() {
        let with_code = |code| {
            let fields = [(0x1070, code), (0x10a8, 0), (0x1418, 0xf_0000), (0x1578, 0x123)];
            Memory(fields.into_iter().collect())
        };
        let vmcb = Vmcb(0x1000);
        assert_eq!(vmcb.exit(&with_code(0x7b)), Some(GuestExit::PortIo));
        assert_eq!(vmcb.exit(&with_code(0x4e)), Some(GuestExit::Exception(0xf_0123)));
        assert_eq!(vmcb.exit(&with_code(0x60)), Some(GuestExit::Other), "INTR");
        assert_eq!(vmcb.exit(&with_code(u64::MAX)), Some(GuestExit::Other), "VMEXIT_INVALID");
        assert_eq!(Vmcb(0x2000).exit(&with_code(0x7b)), None, "no memory");

        let mut memory = with_code(0x7b);
        assert_eq!(vmcb.entry(&memory), Some(0xf_0123));
        memory.0.insert(0x10a8, 0x8000_0b0d);
        assert_eq!(vmcb.entry(&memory), None);
    }
}
