//! The epochs of mailboxes.

use crate::sync::Arc;
use crate::sync::atomic::{AtomicU32, Ordering};

/// A number for the time between two resets, or loads of a snapshot.
///
/// A mailbox is valid in the epoch in which the guest registered it.
#[derive(Clone, Default)]
pub struct MailboxEpoch(Arc<AtomicU32>);

impl MailboxEpoch {
    /// Final epoch: mailboxes are permanently disabled.
    pub(super) const NO_MAILBOXES: u32 = u32::MAX;

    /// Starts the next epoch, which makes all mailboxes stale.
    pub fn next(&self) {
        let next = |epoch: u32| (epoch < Self::NO_MAILBOXES - 1).then(|| epoch + 1);
        // After 2^32 - 2 resets the last epoch continues.
        // Relaxed: a reset stops the vCPUs, by QEMU's locks, so none of them sees the old epoch after it.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Starts the final epoch.
    pub fn end(&self) {
        // Not a store: only among read-modify-writes loom knows which is the last.
        self.0.fetch_max(Self::NO_MAILBOXES, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_epoch_follows_the_final_one() {
        let epoch = MailboxEpoch::default();
        let before = epoch.now();
        epoch.next();
        assert_ne!(epoch.now(), before);
        epoch.end();
        epoch.next();
        assert_eq!(epoch.now(), MailboxEpoch::NO_MAILBOXES);
    }
}
