//! Timers on the clock that the guest sees.

use std::ffi::c_int;
use std::ptr::null_mut;

use super::c_types::QemuTimer;
use super::callback;
use super::guest_clock::VIRTUAL;
use super::symbols::TimerFunctions;

/// `SCALE_NS` of `qemu/timer.h`.
const NANOSECONDS: c_int = 1;

/// A timer on QEMU's virtual clock, which stands still while the machine is stopped.
pub struct GuestTimer {
    functions: TimerFunctions,
    /// Lives until QEMU ends, as does the callback to which it leads.
    timer: *mut QemuTimer,
}

// SAFETY: QEMU's functions lock the timer's list; `timer` never changes.
unsafe impl Send for GuestTimer {}
// SAFETY: as for `Send`.
unsafe impl Sync for GuestTimer {}

impl GuestTimer {
    /// Makes a timer that is not set.
    ///
    /// `callback` runs on QEMU's main thread, which holds the global lock. Returns `None` if QEMU does not export timers,
    /// or runs with `-icount`, where the clock is not for every moment.
    ///
    /// The timer is never freed: make as many as the machine needs, not one for each use.
    pub fn new(icount: bool, callback: impl Fn() + Send + Sync + 'static) -> Option<GuestTimer> {
        let functions = TimerFunctions::find().ok().filter(|_| !icount)?;
        let timer: *mut QemuTimer = Box::leak(Box::new(QemuTimer::zeroed()));
        let opaque = callback::leak(Box::new(callback), "a device's timer panicked");
        // SAFETY: the timer lives for ever, as does `opaque`, which is that of `callback::run`. A null
        // group is the main loop's, which exists before plugins are loaded.
        unsafe {
            (functions.timer_init_full)(
                timer,
                null_mut(),
                VIRTUAL,
                NANOSECONDS,
                0,
                callback::run,
                opaque,
            );
        }
        Some(GuestTimer { functions, timer })
    }

    /// Sets the timer to a time in nanoseconds since the machine started. It replaces the time that was set before.
    ///
    /// If that time has passed, the timer is due at once.
    pub fn set(&self, time: u64) {
        let time = i64::try_from(time).unwrap_or(i64::MAX);
        // SAFETY: an initialised timer. QEMU locks its list, on any thread.
        unsafe { (self.functions.timer_mod_ns)(self.timer, time) };
    }

    /// Cancels the timer, if it is set. A callback that has begun is not waited for.
    pub fn cancel(&self) {
        // SAFETY: as in `set`.
        unsafe { (self.functions.timer_del)(self.timer) };
    }
}
