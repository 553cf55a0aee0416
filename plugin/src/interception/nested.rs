//! The guest that the guest runs, if it is a hypervisor under SVM.
//!
//! QEMU reports neither that such a guest is entered nor that it is left. But both are instructions of
//! the hypervisor's that can be watched: VMRUN, which is given the VMCB, and the one behind it, where a
//! #VMEXIT leads. There the VMCB tells what the exit was for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrayvec::ArrayVec;

use super::address::CodeAddress;
use crate::qemu::Token;
use crate::x86::{AddressSize, GuestExit, Mode, PhysicalMemory, Vmcb};

/// The machine's memory, by physical address.
pub(crate) type SharedMemory = Arc<dyn PhysicalMemory + Send + Sync>;

/// Offsets in their pages of the instructions behind VMRUN. Nothing is kept of a machine that has no hypervisor.
///
/// A page of the hypervisor's may be mapped at several addresses, so an instruction is watched by its offset; whether
/// a #VMEXIT leads to it shows when it runs.
#[derive(Debug)]
pub(super) struct Exits {
    any: AtomicBool,
    /// A bit for each offset.
    offsets: [AtomicU64; PAGE / 64],
}

const PAGE: usize = 4096;

impl Default for Exits {
    fn default() -> Exits {
        Exits { any: AtomicBool::new(false), offsets: [const { AtomicU64::new(0) }; PAGE / 64] }
    }
}

impl Exits {
    /// There is an instruction behind a VMRUN, at this address or at the same offset of another page. Whether that
    /// is new: then it may have been translated already.
    pub fn add(&self, behind: u64) -> bool {
        let (word, bit) = Exits::place(behind);
        let before = self.offsets[word].fetch_or(bit, Ordering::Relaxed);
        self.any.store(true, Ordering::Relaxed);
        before & bit == 0
    }

    /// Whether a #VMEXIT may lead to an instruction.
    #[inline]
    pub fn may_be_at(&self, pc: impl FnOnce() -> u64) -> bool {
        self.any.load(Ordering::Relaxed) && {
            let (word, bit) = Exits::place(pc());
            self.offsets[word].load(Ordering::Relaxed) & bit != 0
        }
    }

    fn place(pc: u64) -> (usize, u64) {
        let offset = pc as usize % PAGE;
        (offset / 64, 1 << (offset % 64))
    }
}

/// What is watched at the edge of a guest of the guest's, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VmrunSite {
    pub kind: VmrunSiteKind,
    pub address: CodeAddress,
}

/// What is watched there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VmrunSiteKind {
    /// VMRUN, with how much of RAX counts, and how long the instruction is.
    Entry(AddressSize, u8),
    /// The instruction behind it, or another at the same offset of its page.
    Exit,
}

/// Bit 0 of a door's token: it is an entry; then bits 1 and 2 are the address size, and bits 3 to 6 the length.
const IS_ENTRY: u64 = 1;

impl VmrunSite {
    /// VMRUN in code of a mode, with or without an address-size prefix.
    pub fn entry(mode: Mode, bytes: &[u8], address: CodeAddress) -> VmrunSite {
        // There is no encoding with 16-bit addresses that takes less than EAX.
        let size = match mode == Mode::Bits64 && !bytes.contains(&0x67) {
            true => AddressSize::Bits64,
            false => AddressSize::Bits32,
        };
        VmrunSite { kind: VmrunSiteKind::Entry(size, bytes.len() as u8), address }
    }

    pub fn to_token(self) -> Token {
        let kind = match self.kind {
            VmrunSiteKind::Exit => 0,
            VmrunSiteKind::Entry(size, len) => IS_ENTRY | (size as u64) << 1 | u64::from(len) << 3,
        };
        Token(kind | self.address.to_bits())
    }

    pub fn from_token(Token(token): Token) -> VmrunSite {
        const SIZES: [AddressSize; 3] =
            [AddressSize::Bits16, AddressSize::Bits32, AddressSize::Bits64];
        let kind = match token & IS_ENTRY {
            0 => VmrunSiteKind::Exit,
            _ => VmrunSiteKind::Entry(SIZES[(token >> 1 & 3) as usize], (token >> 3 & 15) as u8),
        };
        VmrunSite { kind, address: CodeAddress::from_bits(token) }
    }
}

/// How many guests may run at once on the vCPUs that are counted together: one each, where they have
/// threads of their own. More there can be where they have not.
const MOST_GUESTS: usize = 64;

/// A guest that runs.
#[derive(Clone, Copy, Debug)]
struct Entered {
    /// All of the hypervisor's RAX.
    rax: u64,
    /// The instruction behind VMRUN, to which a #VMEXIT leads.
    exit: u64,
    vmcb: Vmcb,
}

/// The guests that hypervisors run.
#[derive(Default)]
pub(super) struct NestedGuests {
    /// `None` where QEMU does not let it be read.
    memory: Option<SharedMemory>,
    /// Those that have been entered and not been left. Where a guest has executed VMRUN in its turn, it
    /// is left for that; or the machine is reset while one runs: then there is one too many, to which
    /// nobody comes back.
    entered: ArrayVec<Entered, MOST_GUESTS>,
    /// The instruction at which the latest goes on, until it has.
    resume_pc: Option<u64>,
}

impl NestedGuests {
    pub fn new(memory: Option<SharedMemory>) -> NestedGuests {
        NestedGuests { memory, ..NestedGuests::default() }
    }

    /// Whether there may be one that runs.
    #[inline]
    pub fn any(&self) -> bool {
        !self.entered.is_empty()
    }

    /// VMRUN is about to enter one; a #VMEXIT leads to `exit`.
    pub fn enter(&mut self, rax: u64, size: AddressSize, exit: u64) {
        self.entered.retain(|entered| entered.rax != rax);
        if self.entered.is_full() {
            self.entered.remove(0);
        }
        let vmcb = Vmcb(size.count(rax));
        self.entered.push(Entered { rax, exit, vmcb });
        self.resume_pc = self.memory.as_deref().and_then(|memory| vmcb.entry(memory));
    }

    /// The instruction at `pc` is about to run, with this in RAX: whether a guest has been left for
    /// it, and why. A #VMEXIT leaves in RAX what VMRUN was given; other code may have come there too,
    /// such as a guest's at the same address.
    pub fn leave(&mut self, rax: u64, pc: u64) -> Option<VmExitReason> {
        let is_left = |entered: &Entered| entered.rax == rax && entered.exit == pc;
        let place = self.entered.iter().position(is_left)?;
        let Entered { vmcb, .. } = self.entered.remove(place);
        self.resume_pc = None;
        Some(VmExitReason(self.memory.as_deref().and_then(|memory| vmcb.exit(memory))))
    }

    /// Whether the hypervisor has entered its guest at just this instruction, and nothing has been
    /// reported since: what was left there goes on.
    pub fn resumes_at(&mut self, address: u64) -> bool {
        self.resume_pc.take() == Some(address)
    }

    /// Something has been reported.
    pub fn has_gone_on(&mut self) {
        self.resume_pc = None;
    }

    /// Another vCPU goes on; what comes back is for [`NestedGuests::switch`] when this one does.
    pub fn switch(&mut self, resume_pc: Option<u64>) -> Option<u64> {
        std::mem::replace(&mut self.resume_pc, resume_pc)
    }
}

/// Why a guest has been left; `None` where it cannot be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VmExitReason(pub Option<GuestExit>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_comes_back_out_of_the_token() {
        let address = CodeAddress { base: 0x9000, offset: 0xffd };
        let vmrun = [0x0f, 0x01, 0xd8];
        let doors = [
            VmrunSite { kind: VmrunSiteKind::Exit, address },
            VmrunSite::entry(Mode::Bits64, &vmrun, address),
            VmrunSite::entry(Mode::Bits32, &vmrun, address),
        ];
        for door in doors {
            assert_eq!(VmrunSite::from_token(door.to_token()), door);
        }
        let narrow = VmrunSite::entry(Mode::Bits64, &[0x67, 0x0f, 0x01, 0xd8], address);
        assert_eq!(narrow.kind, VmrunSiteKind::Entry(AddressSize::Bits32, 4));
    }

    #[test]
    fn an_exit_is_watched_at_its_offset_of_any_page() {
        let exits = Exits::default();
        assert!(!exits.may_be_at(|| 0x1000));
        assert!(exits.add(0x1000));
        assert!(!exits.add(0x8000));
        assert!(exits.may_be_at(|| 0x1000) && exits.may_be_at(|| 0x8000_2000));
        assert!(!exits.may_be_at(|| 0x1001));
    }

    #[test]
    fn a_guest_is_left_at_the_instruction_behind_its_vmrun() {
        let mut guests = NestedGuests::default();
        guests.enter(0x7000, AddressSize::Bits64, 0x8000_1003);
        assert_eq!(guests.leave(0x7000, 0x1003), None);
        assert_eq!(guests.leave(0x6000, 0x8000_1003), None);
        assert_eq!(guests.leave(0x7000, 0x8000_1003), Some(VmExitReason(None)));
        assert!(!guests.any());
    }
}
