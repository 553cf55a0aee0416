//! Work for QEMU's main loop, which any thread may ask for.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::c_types::Bh;
use super::global_lock::GlobalLock;
use super::symbols::{BottomHalfCreation, BottomHalfRequest};
use crate::report::say;

type Work = Box<dyn Fn() + Send + Sync>;

/// Work that QEMU's main loop runs under the global lock, some time after it is scheduled.
pub struct BottomHalf {
    request: BottomHalfRequest,
    handle: *mut Bh,
}

// SAFETY: QEMU's handle is never freed, and `qemu_bh_schedule` may be called on any thread.
unsafe impl Send for BottomHalf {}
// SAFETY: as above; it changes the handle's flags atomically.
unsafe impl Sync for BottomHalf {}

/// A panic must not unwind into QEMU.
unsafe extern "C" fn run(opaque: *mut c_void) {
    // SAFETY: the leaked work that was given with this function.
    let work = unsafe { &*opaque.cast::<Work>() };
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        say("a device panicked in QEMU's main loop (see the message above)");
    }
}

impl BottomHalf {
    /// Registers `work`. It lives until QEMU ends.
    ///
    /// # Panics
    ///
    /// If this thread does not hold QEMU's global lock.
    pub(super) fn new(
        lock: &GlobalLock,
        creation: BottomHalfCreation,
        request: BottomHalfRequest,
        work: Work,
    ) -> BottomHalf {
        lock.assert_held();
        let opaque: *mut Work = Box::leak(Box::new(work));
        let (name, guard) = (c"pvio".as_ptr(), std::ptr::null_mut());
        // SAFETY: with the global lock held, after QEMU has made its main loop, which is before it loads
        // plugins. The work and the name live for ever. The guard is for devices of QEMU, and may be null.
        let handle = unsafe { (creation.qemu_bh_new_full)(run, opaque.cast(), name, guard) };
        BottomHalf { request, handle }
    }

    /// Asks the main loop to run the work once. Several requests before it runs are one.
    ///
    /// Never waits, and may be called on any thread, with any lock held. What the thread has written before
    /// is visible to the work.
    pub fn schedule(&self) {
        // SAFETY: QEMU's own handle, which is never deleted. The function sets flags atomically, and wakes
        // the main loop.
        unsafe { (self.request.qemu_bh_schedule)(self.handle) };
    }
}
