//! Signals that end a program after it has cleaned up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The signals that end a program from outside.
pub const ENDS: &[i32] = &[SIGINT, SIGTERM, SIGHUP];

/// The same for a program that owns a terminal: without the terminal, which SIGHUP tells, it has nothing to restore.
pub const ENDS_ON_A_TERMINAL: &[i32] = &[SIGINT, SIGTERM];

/// Returns a flag that these signals set instead of ending the program.
///
/// # Errors
///
/// Fails if a handler cannot be installed.
pub fn watch(signals: &[i32]) -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for &signal in signals {
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}
