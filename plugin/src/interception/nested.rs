//! Nested guests, which the guest runs if it is a hypervisor under SVM.
//!
//! QEMU reports neither that a nested guest is entered nor that it exits. But the hypervisor's instructions can be
//! watched: VMRUN, which takes the VMCB, and the instruction after it, to which a #VMEXIT leads. There the VMCB gives the
//! reason for the exit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrayvec::ArrayVec;

use crate::x86::{AddressSize, GuestExit, PAGE, PhysicalMemory, Vmcb};

/// The machine's physical memory.
pub(crate) type SharedMemory = Arc<dyn PhysicalMemory + Send + Sync>;

/// The page offsets of the instructions after VMRUN.
///
/// A page of the hypervisor may be mapped at several addresses, so an instruction is watched by its offset. Whether a
/// #VMEXIT leads to it shows when it runs.
#[derive(Debug)]
pub(super) struct ExitOffsets {
    any: AtomicBool,
    /// A bit for each offset.
    offsets: [AtomicU64; WORDS],
}

const WORDS: usize = PAGE as usize / 64;

impl Default for ExitOffsets {
    fn default() -> ExitOffsets {
        ExitOffsets { any: AtomicBool::new(false), offsets: [const { AtomicU64::new(0) }; WORDS] }
    }
}

impl ExitOffsets {
    /// Adds the address of an instruction after a VMRUN.
    ///
    /// Returns true if its offset is new: then the instruction may have been translated without a watch.
    pub fn add(&self, after: u64) -> bool {
        let (word, bit) = ExitOffsets::index(after);
        // Relaxed: a new offset has all code translated anew, which orders both stores before the next translation.
        let before = self.offsets[word].fetch_or(bit, Ordering::Relaxed);
        self.any.store(true, Ordering::Relaxed);
        before & bit == 0
    }

    /// Returns true if a #VMEXIT may lead to an address. `pc` is not called if there is no hypervisor.
    #[inline]
    pub fn may_be_at(&self, pc: impl FnOnce() -> u64) -> bool {
        self.any.load(Ordering::Relaxed) && {
            let (word, bit) = ExitOffsets::index(pc());
            self.offsets[word].load(Ordering::Relaxed) & bit != 0
        }
    }

    fn index(pc: u64) -> (usize, u64) {
        let offset = pc % PAGE;
        ((offset / 64) as usize, 1 << (offset % 64))
    }
}

/// Maximum number of nested guests that are followed at once. A vCPU with its own thread has one; vCPUs that share a
/// thread have one each.
const MAX_GUESTS: usize = 64;

/// A nested guest that has been entered.
#[derive(Clone, Copy, Debug)]
struct Entered {
    /// The hypervisor's whole RAX.
    rax: u64,
    /// The address of the instruction after VMRUN, to which a #VMEXIT leads.
    exit: u64,
    vmcb: Vmcb,
}

/// The nested guests that have been entered.
#[derive(Default)]
pub(super) struct NestedGuests {
    /// `None` if QEMU does not let pvio read it.
    memory: Option<SharedMemory>,
    /// Guests that have not exited, in the order of entry.
    ///
    /// One may be stale: if a guest executes VMRUN, which exits to its hypervisor, or if the machine is reset.
    entered: ArrayVec<Entered, MAX_GUESTS>,
    /// The address at which the latest guest resumes, until something is reported.
    resume_pc: Option<u64>,
}

impl NestedGuests {
    pub fn new(memory: Option<SharedMemory>) -> NestedGuests {
        NestedGuests { memory, ..NestedGuests::default() }
    }

    /// Returns true if a nested guest may run.
    #[inline]
    pub fn any(&self) -> bool {
        !self.entered.is_empty()
    }

    /// VMRUN is about to enter a guest, with this in RAX. A #VMEXIT leads to `exit`.
    pub fn enter(&mut self, rax: u64, size: AddressSize, exit: u64) {
        self.entered.retain(|entered| entered.rax != rax);
        if self.entered.is_full() {
            self.entered.remove(0);
        }
        let vmcb = Vmcb(size.count(rax));
        self.entered.push(Entered { rax, exit, vmcb });
        self.resume_pc = self.memory.as_deref().and_then(|memory| vmcb.entry(memory));
    }

    /// The instruction at `pc` is about to run, with this in RAX. Returns why a guest has exited to it, if one has.
    ///
    /// A #VMEXIT restores the RAX of VMRUN. Other code may get there too, such as a guest's code at the same address.
    pub fn leave(&mut self, rax: u64, pc: u64) -> Option<VmExitReason> {
        let has_exited = |entered: &Entered| entered.rax == rax && entered.exit == pc;
        let index = self.entered.iter().position(has_exited)?;
        let Entered { vmcb, .. } = self.entered.remove(index);
        self.resume_pc = None;
        Some(VmExitReason(self.memory.as_deref().and_then(|memory| vmcb.exit(memory))))
    }

    /// Returns true if a hypervisor has entered its guest at this address, and nothing has been reported since.
    pub fn resumes_at(&mut self, address: u64) -> bool {
        self.resume_pc.take() == Some(address)
    }

    /// An instruction of the guest has been reported.
    pub fn clear_resume_pc(&mut self) {
        self.resume_pc = None;
    }

    /// Replaces the resume address by that of another vCPU, which shares the thread.
    pub fn switch(&mut self, resume_pc: Option<u64>) -> Option<u64> {
        std::mem::replace(&mut self.resume_pc, resume_pc)
    }
}

/// The reason why a nested guest exited; `None` if it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VmExitReason(pub Option<GuestExit>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_may_be_at_its_offset_in_any_page() {
        let exits = ExitOffsets::default();
        assert!(!exits.may_be_at(|| 0x1000));
        assert!(exits.add(0x1000));
        assert!(!exits.add(0x8000));
        assert!(exits.may_be_at(|| 0x1000) && exits.may_be_at(|| 0x8000_2000));
        assert!(!exits.may_be_at(|| 0x1001));
    }

    #[test]
    fn a_guest_exits_to_the_instruction_after_its_vmrun() {
        let mut guests = NestedGuests::default();
        guests.enter(0x7000, AddressSize::Bits64, 0x8000_1003);
        assert_eq!(guests.leave(0x7000, 0x1003), None);
        assert_eq!(guests.leave(0x6000, 0x8000_1003), None);
        assert_eq!(guests.leave(0x7000, 0x8000_1003), Some(VmExitReason(None)));
        assert!(!guests.any());
    }
}
