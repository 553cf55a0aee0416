//! QEMU's global lock, the BQL.

use super::current_cpu::running_vcpu;
use super::symbols::LockFunctions;

/// QEMU's global lock. Threads that change the machine hold it; the main thread does while it loads plugins.
///
/// Lock order: a thread that takes it must hold no lock that a holder of it may wait for.
#[derive(Clone)]
pub(super) struct GlobalLock(LockFunctions);

impl GlobalLock {
    pub fn new(functions: LockFunctions) -> GlobalLock {
        GlobalLock(functions)
    }

    fn is_held(&self) -> bool {
        // SAFETY: only tells whether this thread holds the lock.
        unsafe { (self.0.bql_locked)() }
    }

    /// Runs `work` without the lock if this thread runs a vCPU; a vCPU holds it for the sake of one access.
    ///
    /// Other threads keep it, as the monitor's does: their callers rely on it.
    pub fn released_by_vcpu<R>(&self, work: impl FnOnce() -> R) -> R {
        if running_vcpu() == 0 || !self.is_held() {
            return work();
        }
        /// Takes the lock again, even if `work` panics.
        struct Released<'a>(&'a GlobalLock);
        impl Drop for Released<'_> {
            fn drop(&mut self) {
                // SAFETY: this thread has released the lock. The file's name is a constant.
                unsafe { (self.0.0.bql_lock_impl)(c"pvio".as_ptr(), 0) };
            }
        }
        // SAFETY: this thread holds the lock. QEMU's own handlers of accesses release it, too, where they
        // wait for other threads (`pause_all_vcpus` in `hw/i386/vapic.c`).
        unsafe { (self.0.bql_unlock)() };
        let _released = Released(self);
        work()
    }

    /// # Panics
    ///
    /// If this thread does not hold the lock.
    pub fn assert_held(&self) {
        assert!(self.is_held(), "the machine is changed under QEMU's global lock");
    }

    /// Runs `work` with the lock held. Takes the lock if this thread does not hold it.
    pub fn with<R>(&self, work: impl FnOnce() -> R) -> R {
        if self.is_held() {
            return work();
        }
        /// Unlocks even if `work` panics.
        struct Held<'a>(&'a GlobalLock);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                // SAFETY: this thread has taken the lock.
                unsafe { (self.0.0.bql_unlock)() };
            }
        }
        // SAFETY: this thread does not hold the lock. The file's name is a constant.
        unsafe { (self.0.bql_lock_impl)(c"pvio".as_ptr(), 0) };
        let _held = Held(self);
        work()
    }
}
