//! Being told to stop: what was begun is ended first.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on an interrupt (^C), a hang-up or a polite kill sets what this returns, and does nothing
/// else.
pub fn watch() -> &'static AtomicBool {
    extern "C" fn interrupted(_: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let handler: extern "C" fn(libc::c_int) = interrupted;
        // SAFETY: the handler only stores to an atomic, which a handler may do.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    &INTERRUPTED
}
