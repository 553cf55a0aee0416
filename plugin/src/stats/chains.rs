//! One vCPU's accesses by call chain.
//!
//! Each vCPU has a table of the stacks that it had at accesses, protected by a lock for which only a dump contends. Counts
//! are ordinary counters, so windows and resets need nothing special.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::call_sites::CallSiteId;
use super::counter_array::CounterArray;
use super::sites::{MAX_SITES, SiteId};
use crate::guest::{CaptureTable, Found, KnownKernel, MOST_STACKS, StackId, Start};
use crate::running_kernel::RunningKernel;

/// The stack under which an access is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallerId(Option<StackId>);

impl CallerId {
    /// The vCPU's number of the stack; `None` if there is no room, or chains are not counted.
    pub fn number(self) -> Option<u32> {
        self.0.map(|StackId(stack)| stack)
    }
}

/// The code whose accesses a stack counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StackOwner {
    /// A port instruction.
    Site(SiteId),
    /// A hypercall.
    Call(CallSiteId),
}

impl StackOwner {
    /// The number that all code without a row shares.
    pub(super) const DROPPED: u32 = MAX_SITES as u32 * 2;

    /// The number in the table of stacks. Both kinds are numbered from 0, since the table has a row for each number.
    pub fn number(self) -> u32 {
        match self {
            StackOwner::Site(SiteId(site)) => site * 2,
            StackOwner::Call(CallSiteId(site)) => site * 2 + 1,
        }
    }

    pub(super) fn of_number(number: u32) -> StackOwner {
        match number % 2 {
            0 => StackOwner::Site(SiteId(number / 2)),
            _ => StackOwner::Call(CallSiteId(number / 2)),
        }
    }
}

/// The accesses of one vCPU by call chain.
pub struct VcpuChains {
    /// The vCPU's number among those that count.
    slot: u32,
    stacks: Mutex<CaptureTable>,
    /// Counts by stack.
    counts: CounterArray<1>,
    /// Accesses, by [`StackOwner::number`], whose stacks did not fit into the table.
    no_room: CounterArray<1>,
}

impl VcpuChains {
    pub(super) fn new(slot: usize, depth: usize) -> VcpuChains {
        VcpuChains {
            slot: slot as u32,
            stacks: Mutex::new(CaptureTable::new(depth)),
            counts: CounterArray::new(MOST_STACKS),
            no_room: CounterArray::new(StackOwner::DROPPED as usize + 1),
        }
    }

    /// Finds the stack that code is at now, by [`CaptureTable::find`].
    pub fn find(
        &self,
        owner: StackOwner,
        known: KnownKernel<'_>,
        start: &Start,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> (CallerId, Found) {
        let found = self.stacks().find(owner.number(), known, start, read);
        (CallerId(found.stack), found)
    }

    /// Unwinds stacks that wait, by [`CaptureTable::resolve`].
    pub fn resolve_waiting(
        &self,
        known: KnownKernel<'_>,
        current: Option<StackId>,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) {
        let mut stacks = self.stacks();
        if stacks.waiting() > 0 {
            stacks.resolve(known, current, read);
        }
    }

    /// Finds the entry of code for accesses whose stack is not known.
    pub fn find_unknown(&self, owner: StackOwner) -> CallerId {
        CallerId(self.stacks().find_unknown(owner.number()).stack)
    }

    /// Counts accesses of code; `None` if it has no row.
    #[inline]
    pub fn accessed(&self, owner: Option<StackOwner>, caller: CallerId, count: u64) {
        match (owner, caller) {
            (Some(_), CallerId(Some(StackId(stack)))) => {
                self.counts.add_many(stack as usize, 0, count);
            }
            _ => {
                let row = owner.map_or(StackOwner::DROPPED, StackOwner::number);
                self.no_room.add_many(row as usize, 0, count);
            }
        }
    }

    /// Takes one access back.
    pub fn take_back(&self, owner: Option<StackOwner>, caller: CallerId) {
        self.accessed(owner, caller, 1u64.wrapping_neg());
    }

    /// The stacks. Hold them for a moment only: the vCPU may be waiting.
    pub fn stacks(&self) -> MutexGuard<'_, CaptureTable> {
        self.stacks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unwinds stacks that wait, by the kernel that runs, if there are any.
    pub(super) fn resolve(&self, kernel: KnownKernel<'_>, running: &RunningKernel) {
        let Some(known) = kernel.kernel else { return };
        let mut read = |at: u64, into: &mut [u8]| known.read_linear(running.memory(), at, into);
        self.stacks().resolve(kernel, None, &mut read);
    }

    /// Counts by stack, as rows of all vCPUs.
    pub(super) fn by_stack(&self) -> Vec<(u32, [i64; 1])> {
        let first = self.slot * MOST_STACKS as u32;
        self.counts.rows().map(|(stack, count)| (first + stack, count)).collect()
    }

    /// Counts by [`StackOwner::number`] where there was no room.
    pub(super) fn without_room(&self) -> &CounterArray<1> {
        &self.no_room
    }
}

/// The vCPU and the stack of a row.
pub(super) fn stack_of_row(row: usize) -> (usize, StackId) {
    (row / MOST_STACKS, StackId((row % MOST_STACKS) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_and_call_sites_have_numbers_of_their_own() {
        for number in [0, 1, 2, 7, StackOwner::DROPPED - 1, StackOwner::DROPPED] {
            assert_eq!(StackOwner::of_number(number).number(), number);
        }
        assert!(StackOwner::Call(CallSiteId::DROPPED).number() < StackOwner::DROPPED);
    }
}
