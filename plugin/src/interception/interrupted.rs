//! String instructions that were left in the middle, until they go on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use arrayvec::ArrayVec;

use super::operation::Operation;
use crate::x86::Port;

/// How many there may be: one for each level of nested handlers on each vCPU, and each guest thread
/// that was switched away in the middle of one. Those that are given up stay until others need the
/// room.
const MOST: usize = 64;

/// A string instruction that has elements left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InterruptedString {
    pub operation: Operation,
    pub port: Port,
    /// Elements still to be moved. With 0 left, QEMU has still to look at the count once more.
    pub remaining: u64,
    /// An element has been moved.
    pub begun: bool,
    /// A fault has been delivered from it, and counted.
    pub faulted: bool,
}

impl InterruptedString {
    /// Whether only a report with EFLAGS.RF set can be this attempt going on.
    ///
    /// One that was given up after a fault looks like a new start with the same count; but what comes
    /// back from a fault handler has RF set. Where faults are not reported, one that has not moved an
    /// element must have faulted: nothing else comes before the first. What comes back from an
    /// interrupt handler need not have RF: a 16-bit IRET drops it.
    pub fn must_show_rf(&self) -> bool {
        self.faulted || !self.begun
    }
}

/// Those of all vCPUs: an operating system may go on with one on another vCPU.
#[derive(Debug, Default)]
pub(super) struct Interrupted {
    /// Nearly always 0, and then nobody needs the lock.
    len: AtomicUsize,
    list: Mutex<ArrayVec<InterruptedString, MOST>>,
}

impl Interrupted {
    /// Remembers one.
    pub fn put(&self, left: InterruptedString) {
        self.with_list(|list| {
            if list.is_full() {
                // The oldest is the likeliest never to go on.
                list.remove(0);
            }
            list.push(left);
        });
    }

    /// Takes the latest that fits: handlers nest.
    pub fn take(&self, fits: impl Fn(&InterruptedString) -> bool) -> Option<InterruptedString> {
        if self.len.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.with_list(|list| Some(list.remove(list.iter().rposition(fits)?)))
    }

    fn with_list<R>(&self, work: impl FnOnce(&mut ArrayVec<InterruptedString, MOST>) -> R) -> R {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut list);
        self.len.store(list.len(), Ordering::Release);
        result
    }
}
