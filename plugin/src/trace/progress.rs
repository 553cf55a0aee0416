//! How far the pending event of a vCPU is, which its thread notes without the lock.

use crate::sync::atomic::{AtomicU64, Ordering};

/// What is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// No event.
    Nothing,
    /// An `in` or `out` whose outcome may change.
    Open,
    /// The start of a string instruction.
    Started,
    /// An `in` or `out` that has retired.
    Retired {
        /// EAX, which has the value of an `in`.
        eax: u32,
    },
}

/// What is pending, for the vCPU's thread and for others that hold the lock of the events.
///
/// Without the lock, the vCPU's thread only replaces [`Pending::Open`] by [`Pending::Retired`]. Others only replace the
/// latter. So neither loses what the other has stored.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU64);

const OPEN: u64 = 1 << 32;
const STARTED: u64 = 2 << 32;
const RETIRED: u64 = 3 << 32;

impl Progress {
    /// Returns what is pending.
    // Relaxed: the event itself is behind the lock.
    #[inline]
    pub fn get(&self) -> Pending {
        let bits = self.0.load(Ordering::Relaxed);
        match bits & !u64::from(u32::MAX) {
            OPEN => Pending::Open,
            STARTED => Pending::Started,
            RETIRED => Pending::Retired { eax: bits as u32 },
            _ => Pending::Nothing,
        }
    }

    /// Sets what is pending.
    #[inline]
    pub fn set(&self, pending: Pending) {
        let bits = match pending {
            Pending::Nothing => 0,
            Pending::Open => OPEN,
            Pending::Started => STARTED,
            Pending::Retired { eax } => RETIRED | u64::from(eax),
        };
        self.0.store(bits, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_pending() {
        let progress = Progress::default();
        assert_eq!(progress.get(), Pending::Nothing);
        let retired = [0, 1, u32::MAX].map(|eax| Pending::Retired { eax });
        for pending in
            [Pending::Open, Pending::Started, Pending::Nothing].into_iter().chain(retired)
        {
            progress.set(pending);
            assert_eq!(progress.get(), pending);
        }
    }
}
