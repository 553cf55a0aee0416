//! The first port that a site accesses on any vCPU, in a word that all vCPUs share.

use crate::sync::atomic::{AtomicU64, Ordering};

/// The bit that tells port 0 from no port.
const ACCESSED: u64 = 1 << 16;

/// Returns the port in the word; `None` before the first access.
pub(super) fn get(word: &AtomicU64) -> Option<u16> {
    // Relaxed: the word is all that there is to know.
    let first = word.load(Ordering::Relaxed);
    (first != 0).then_some(first as u16)
}

/// Returns true if a port is the first one. It becomes the first one if there is none.
#[inline]
pub(super) fn is_first(word: &AtomicU64, port: u16) -> bool {
    let first = word.load(Ordering::Relaxed);
    first == ACCESSED | u64::from(port) || first == 0 && becomes_first(word, port)
}

#[cold]
fn becomes_first(word: &AtomicU64, port: u16) -> bool {
    let now = ACCESSED | u64::from(port);
    let before = word.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    before.is_ok() || before == Err(now)
}
