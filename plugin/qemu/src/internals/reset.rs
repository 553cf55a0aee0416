//! Resets of the machine.

use super::callback;
use super::global_lock::GlobalLock;
use super::symbols::ResetFunctions;

impl ResetFunctions {
    /// Calls `handler` at each reset, until QEMU ends.
    pub fn register(&self, lock: &GlobalLock, handler: Box<dyn Fn() + Send + Sync>) {
        lock.assert_held();
        let opaque = callback::leak(handler, "a device panicked when the machine was reset");
        // SAFETY: with the global lock held. `opaque` is that of `callback::run`, and lives for ever.
        unsafe { (self.qemu_register_reset)(callback::run, opaque) };
    }
}
