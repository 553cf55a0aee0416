//! One vCPU's accesses by call chain.
//!
//! Each vCPU has a table of the stacks that it had at accesses, protected by a lock for which only a dump contends. Counts
//! are ordinary counters, so windows and resets need nothing special.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::counter_array::CounterArray;
use super::counters::SITE_DROPPED;
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

/// The accesses of one vCPU by call chain.
pub struct VcpuChains {
    /// The vCPU's number among those that count.
    slot: u32,
    stacks: Mutex<CaptureTable>,
    /// Counts by stack.
    counts: CounterArray<1>,
    /// Accesses, by site, whose stacks did not fit into the table.
    no_room: CounterArray<1>,
}

impl VcpuChains {
    pub(super) fn new(slot: usize, depth: usize) -> VcpuChains {
        VcpuChains {
            slot: slot as u32,
            stacks: Mutex::new(CaptureTable::new(depth)),
            counts: CounterArray::new(MOST_STACKS),
            no_room: CounterArray::new(MAX_SITES + 1),
        }
    }

    /// Finds the stack that a site is at now, by [`CaptureTable::find`].
    pub fn find(
        &self,
        site: SiteId,
        known: KnownKernel<'_>,
        start: &Start,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> (CallerId, Found) {
        let found = self.stacks().find(site.0, known, start, read);
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

    /// Finds the entry of a site for accesses whose stack is not known.
    pub fn find_unknown(&self, site: SiteId) -> CallerId {
        CallerId(self.stacks().find_unknown(site.0).stack)
    }

    /// Counts accesses of a site.
    #[inline]
    pub fn accessed(&self, site: Option<SiteId>, caller: CallerId, count: u64) {
        match (site, caller) {
            (Some(_), CallerId(Some(StackId(stack)))) => {
                self.counts.add_many(stack as usize, 0, count);
            }
            _ => {
                let row = site.map_or(SITE_DROPPED, |site| site.0 as usize);
                self.no_room.add_many(row, 0, count);
            }
        }
    }

    /// Takes one access back.
    pub fn take_back(&self, site: Option<SiteId>, caller: CallerId) {
        self.accessed(site, caller, 1u64.wrapping_neg());
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

    /// Counts by site where there was no room.
    pub(super) fn without_room(&self) -> &CounterArray<1> {
        &self.no_room
    }
}

/// The vCPU and the stack of a row.
pub(super) fn stack_of_row(row: usize) -> (usize, StackId) {
    (row / MOST_STACKS, StackId((row % MOST_STACKS) as u32))
}
