//! AMD's virtualization as it is seen from outside of a guest (APM vol. 2, chapter 15 and appendix B):
//! the instruction that enters one, and what its VMCB says of how it was left.

use super::PhysicalMemory;

/// `vmrun`, by which a guest becomes a hypervisor.
const VMRUN: [u8; 3] = [0x0f, 0x01, 0xd8];

/// Whether this is the instruction that enters a guest. Prefixes do not make it another.
pub fn is_vmrun(bytes: &[u8]) -> bool {
    let is_prefix = |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf2 | 0xf3);
    bytes.strip_suffix(&VMRUN).is_some_and(|prefixes| prefixes.iter().all(is_prefix))
}

/// Why a guest was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestExit {
    /// The I/O permission map has its next port access intercepted: the instruction has done nothing.
    PortIo,
    /// The hypervisor intercepts an exception of the instruction at this linear address, or one in
    /// front of which it was raised.
    Exception(u64),
    /// Something else.
    Other,
}

/// The control block of a guest, by its physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vmcb(pub u64);

impl Vmcb {
    const EXIT_CODE: u64 = 0x70;
    const EVENT_INJECTION: u64 = 0xa8;
    const CS_BASE: u64 = 0x418;
    const RIP: u64 = 0x578;

    /// `EVENTINJ.V`.
    const INJECTED: u64 = 1 << 31;

    /// How the guest was last left.
    pub fn exit(self, memory: &dyn PhysicalMemory) -> Option<GuestExit> {
        Some(match self.read(memory, Self::EXIT_CODE)? {
            0x7b => GuestExit::PortIo,
            0x40..=0x5f => GuestExit::Exception(self.next_instruction(memory)?),
            _ => GuestExit::Other,
        })
    }

    /// The instruction at which the guest goes on when it is entered; `None` where an event is injected,
    /// which leads elsewhere.
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
    fn prefixes_make_no_other_instruction() {
        assert!(is_vmrun(&[0x0f, 0x01, 0xd8]));
        assert!(is_vmrun(&[0x67, 0x0f, 0x01, 0xd8]));
        assert!(!is_vmrun(&[0x0f, 0x01, 0xd9]), "vmmcall");
        assert!(!is_vmrun(&[0xb8, 0x00, 0x0f, 0x01, 0xd8]), "mov eax,0xd8010f00");
    }

    #[test]
    fn a_vmcb_tells_how_its_guest_was_left() {
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
