//! Waiting for something that another process does.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// The limit of each wait. It is generous: other tests load the computer at the same time.
const TIME_LIMIT: Duration = Duration::from_secs(150);
const PAUSE: Duration = Duration::from_millis(20);

/// Repeats an attempt until it succeeds. Returns its result.
///
/// # Panics
///
/// With the error of the last attempt if none succeeds within the time limit.
#[track_caller]
pub fn wait_for<T>(mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(result) => return result,
            Err(error) => assert!(start.elapsed() < TIME_LIMIT, "{error}"),
        }
        sleep(PAUSE);
    }
}

/// Waits until a condition holds.
///
/// # Panics
///
/// With the text of `explain` if it does not hold within the time limit.
#[track_caller]
pub fn wait_until(mut condition: impl FnMut() -> bool, explain: impl Fn() -> String) {
    wait_for(|| if condition() { Ok(()) } else { Err(explain()) });
}
