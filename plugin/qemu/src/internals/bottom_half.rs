//! Work for QEMU's main loop, which any thread may ask for.

use super::c_types::Bh;
use super::callback;
use super::global_lock::GlobalLock;
use super::symbols::{BottomHalfCreation, BottomHalfRequest};

/// Work that QEMU's main loop runs under the global lock, some time after it is scheduled.
pub struct BottomHalf {
    request: BottomHalfRequest,
    handle: *mut Bh,
}

// SAFETY: QEMU's handle is never freed, and `qemu_bh_schedule` may be called on any thread.
unsafe impl Send for BottomHalf {}
// SAFETY: as above; it changes the handle's flags atomically.
unsafe impl Sync for BottomHalf {}

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
        work: Box<dyn Fn() + Send + Sync>,
    ) -> BottomHalf {
        lock.assert_held();
        let opaque = callback::leak(work, "a device panicked in QEMU's main loop");
        let (name, guard) = (c"pvio".as_ptr(), std::ptr::null_mut());
        // SAFETY: with the global lock held, after QEMU has made its main loop, which is before it loads
        // plugins. The work and the name live for ever. The guard is for devices of QEMU, and may be null.
        let handle = unsafe { (creation.qemu_bh_new_full)(callback::run, opaque, name, guard) };
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
