//! Timers on the clock that the guest sees.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use super::c_types::QemuTimer;
use super::guest_clock::VIRTUAL;
use super::symbols::TimerFunctions;
use crate::report::say;

/// `SCALE_NS` of `qemu/timer.h`.
const NANOSECONDS: c_int = 1;

type Callback = Box<dyn Fn() + Send + Sync>;

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

/// A panic must not unwind into QEMU.
extern "C" fn timer_is_due(opaque: *mut c_void) {
    // SAFETY: the leaked callback that `GuestTimer::new` gave with this function.
    let callback = unsafe { &*opaque.cast::<Callback>() };
    if catch_unwind(AssertUnwindSafe(callback)).is_err() {
        say("a device's timer panicked (see the message above)");
    }
}

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
        let callback: Callback = Box::new(callback);
        let opaque: *mut Callback = Box::leak(Box::new(callback));
        // SAFETY: the timer and the callback live for ever, and `timer_is_due` takes the callback for what it is. A null
        // group is the main loop's, which exists before plugins are loaded.
        unsafe {
            (functions.timer_init_full)(
                timer,
                null_mut(),
                VIRTUAL,
                NANOSECONDS,
                0,
                timer_is_due,
                opaque.cast(),
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
