//! String instructions that were interrupted, until they resume.

use arrayvec::ArrayVec;

use super::string_attempt::StringAttempt;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, PoisonError};

/// Maximum number of strings that are kept. There is one for each level of nested handlers on each vCPU, and for each guest
/// thread that was preempted within a string. Abandoned strings stay until their room is needed.
const MAX_INTERRUPTED: usize = 64;

/// The interrupted strings of all vCPUs: an operating system may resume one on another vCPU.
#[derive(Debug, Default)]
pub(super) struct InterruptedStrings {
    /// The length of the list. It is nearly always 0, and then no lock is needed.
    len: AtomicUsize,
    list: Mutex<ArrayVec<StringAttempt, MAX_INTERRUPTED>>,
}

impl InterruptedStrings {
    /// Adds a string. If the list is full, drops the oldest, which is the least likely to resume.
    pub fn put(&self, string: StringAttempt) {
        self.with_list(|list| {
            if list.is_full() {
                list.remove(0);
            }
            list.push(string);
        });
    }

    /// Removes the latest string that matches, because handlers nest.
    pub fn take(&self, matches: impl Fn(&StringAttempt) -> bool) -> Option<StringAttempt> {
        // Acquire, with the store in `with_list`: a guest that hands work to another vCPU synchronizes by its own
        // stores and loads, and the length must not be older than these.
        if self.len.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.with_list(|list| Some(list.remove(list.iter().rposition(matches)?)))
    }

    fn with_list<R>(
        &self,
        work: impl FnOnce(&mut ArrayVec<StringAttempt, MAX_INTERRUPTED>) -> R,
    ) -> R {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut list);
        self.len.store(list.len(), Ordering::Release);
        result
    }
}
