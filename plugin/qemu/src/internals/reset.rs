//! Resets of the machine.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::global_lock::GlobalLock;
use super::symbols::ResetFunctions;
use crate::report::say;

type Handler = Box<dyn Fn() + Send + Sync>;

/// A panic must not unwind into QEMU.
extern "C" fn machine_reset(opaque: *mut c_void) {
    // SAFETY: the leaked handler that was registered with this function.
    let handler = unsafe { &*opaque.cast::<Handler>() };
    if catch_unwind(AssertUnwindSafe(handler)).is_err() {
        say("a device panicked when the machine was reset (see the message above)");
    }
}

impl ResetFunctions {
    /// Calls `handler` at each reset, until QEMU ends.
    pub fn register(&self, lock: &GlobalLock, handler: Handler) {
        lock.assert_held();
        let opaque: *mut Handler = Box::leak(Box::new(handler));
        // SAFETY: with the global lock held. The handler lives for ever, and `machine_reset` takes it for
        // what it is.
        unsafe { (self.qemu_register_reset)(machine_reset, opaque.cast()) };
    }
}
