//! Waiting for something that another process does.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// The limit of each wait. It is generous: other tests load the computer at the same time.
const TIME_LIMIT: Duration = Duration::from_secs(150);
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until `condition` holds.
///
/// # Panics
///
/// With the message of `explain` if the condition does not hold within the time limit.
#[track_caller]
pub fn wait_until(mut condition: impl FnMut() -> bool, explain: impl FnOnce() -> String) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIME_LIMIT, "{}", explain());
        sleep(PAUSE);
    }
}
