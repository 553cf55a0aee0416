//! The guest that the guest runs, if it is a hypervisor under SVM.
//!
//! QEMU reports neither that such a guest is entered nor that it is left. But both are instructions of
//! the hypervisor's that can be watched: VMRUN, which is given the VMCB, and the one behind it, where a
//! #VMEXIT leads. There the VMCB tells what the exit was for.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrayvec::ArrayVec;

use crate::qemu::Token;
use crate::x86::{AddressSize, Entries, GuestExit, Mode, Vmcb};

/// The machine's memory, by physical address.
pub(crate) type PhysicalMemory = Arc<dyn Entries + Send + Sync>;

/// Where in the machine guests are entered and left. Nothing is kept of a machine that has no hypervisor.
#[derive(Debug, Default)]
pub(super) struct Doors {
    any: AtomicBool,
    /// Linear addresses to which a #VMEXIT leads.
    exits: Mutex<HashSet<u64>>,
}

/// The most addresses behind a VMRUN that are remembered. A hypervisor has one or two; this bounds what
/// a guest that makes them up can take.
const MOST_DOORS: usize = 4096;

impl Doors {
    /// There is a VMRUN, with this instruction behind it.
    pub fn add(&self, behind: u64) {
        let mut exits = self.exits.lock().unwrap_or_else(PoisonError::into_inner);
        if exits.len() < MOST_DOORS {
            exits.insert(behind);
            self.any.store(true, Ordering::Relaxed);
        }
    }

    /// Whether an instruction is behind a VMRUN.
    #[inline]
    pub fn is_exit(&self, pc: impl FnOnce() -> u64) -> bool {
        self.any.load(Ordering::Relaxed)
            && self.exits.lock().unwrap_or_else(PoisonError::into_inner).contains(&pc())
    }
}

/// What is watched at a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// VMRUN, with how much of RAX counts.
    Entry(AddressSize),
    /// The instruction behind it.
    Exit,
}

impl Door {
    /// VMRUN in code of a mode, with or without an address-size prefix.
    pub fn entry(mode: Mode, bytes: &[u8]) -> Door {
        // There is no encoding with 16-bit addresses that takes less than EAX.
        match mode == Mode::Bits64 && !bytes.contains(&0x67) {
            true => Door::Entry(AddressSize::Bits64),
            false => Door::Entry(AddressSize::Bits32),
        }
    }

    pub fn to_token(self) -> Token {
        Token(match self {
            Door::Exit => 0,
            Door::Entry(AddressSize::Bits64) => 2,
            Door::Entry(_) => 1,
        })
    }

    pub fn from_token(token: Token) -> Door {
        match token.0 {
            0 => Door::Exit,
            1 => Door::Entry(AddressSize::Bits32),
            _ => Door::Entry(AddressSize::Bits64),
        }
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
    vmcb: Vmcb,
}

/// The guests that hypervisors run.
#[derive(Default)]
pub(super) struct NestedGuests {
    /// `None` where QEMU does not let it be read.
    memory: Option<PhysicalMemory>,
    /// Those that have been entered and not been left. Where a guest has executed VMRUN in its turn, it
    /// is left for that; or the machine is reset while one runs: then there is one too many, to which
    /// nobody comes back.
    entered: ArrayVec<Entered, MOST_GUESTS>,
    /// The instruction at which the latest goes on, until it has.
    goes_on_at: Option<u64>,
}

impl NestedGuests {
    pub fn new(memory: Option<PhysicalMemory>) -> NestedGuests {
        NestedGuests { memory, ..NestedGuests::default() }
    }

    /// Whether there may be one that runs.
    #[inline]
    pub fn any(&self) -> bool {
        !self.entered.is_empty()
    }

    /// VMRUN is about to enter one.
    pub fn enter(&mut self, rax: u64, size: AddressSize) {
        self.entered.retain(|entered| entered.rax != rax);
        if self.entered.is_full() {
            self.entered.remove(0);
        }
        let vmcb = Vmcb(size.count(rax));
        self.entered.push(Entered { rax, vmcb });
        self.goes_on_at = self.memory.as_deref().and_then(|memory| vmcb.entry(memory));
    }

    /// The instruction behind VMRUN is about to run, with this in RAX: whether a guest has been left for
    /// it, and why. A #VMEXIT leaves in RAX what VMRUN was given; other code may have come there too,
    /// such as a guest's at the same address.
    pub fn leave(&mut self, rax: u64) -> Option<WhyLeft> {
        let place = self.entered.iter().position(|entered| entered.rax == rax)?;
        let Entered { vmcb, .. } = self.entered.remove(place);
        self.goes_on_at = None;
        Some(WhyLeft(self.memory.as_deref().and_then(|memory| vmcb.exit(memory))))
    }

    /// Whether the hypervisor has entered its guest at just this instruction, and nothing has been
    /// reported since: what was left there goes on.
    pub fn takes_up(&mut self, address: u64) -> bool {
        self.goes_on_at.take() == Some(address)
    }

    /// Something has been reported.
    pub fn has_gone_on(&mut self) {
        self.goes_on_at = None;
    }

    /// Another vCPU goes on; what comes back is for [`NestedGuests::switch`] when this one does.
    pub fn switch(&mut self, goes_on_at: Option<u64>) -> Option<u64> {
        std::mem::replace(&mut self.goes_on_at, goes_on_at)
    }
}

/// Why a guest has been left; `None` where it cannot be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WhyLeft(pub Option<GuestExit>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_comes_back_out_of_the_token() {
        let doors = [
            Door::Exit,
            Door::entry(Mode::Bits64, &[0x0f, 0x01, 0xd8]),
            Door::entry(Mode::Bits32, &[0x0f, 0x01, 0xd8]),
        ];
        for door in doors {
            assert_eq!(Door::from_token(door.to_token()), door);
        }
        let narrow = Door::entry(Mode::Bits64, &[0x67, 0x0f, 0x01, 0xd8]);
        assert_eq!(narrow, Door::Entry(AddressSize::Bits32));
    }

    #[test]
    fn a_machine_without_a_hypervisor_has_no_doors() {
        let doors = Doors::default();
        assert!(!doors.is_exit(|| 0x1000));
        doors.add(0x1000);
        assert!(doors.is_exit(|| 0x1000) && !doors.is_exit(|| 0x1001));
    }
}
