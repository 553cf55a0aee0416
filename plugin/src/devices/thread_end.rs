//! Waits for the end of a device's thread, which somebody else may hold up.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(5);

/// Waits until a thread has ended, or for `patience`. Returns whether it has ended.
pub(super) fn ends_within(thread: &JoinHandle<()>, patience: Duration) -> bool {
    let begun = Instant::now();
    while !thread.is_finished() {
        if begun.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}
