//! The vCPU that a thread runs.

use super::c_types::CpuState;
use super::symbols::CurrentCpu;

/// Returns the vCPU that this thread runs; null if there is none, or if it is not known.
pub(crate) fn current_cpu() -> *mut CpuState {
    thread_local! {
        /// `dlsym` gives each thread the address of its own variable.
        static CURRENT: Option<CurrentCpu> = CurrentCpu::find().ok();
    }
    CURRENT.with(|current| match current {
        // SAFETY: this thread's own variable, which nobody else writes. It lives as long as the thread.
        Some(current) => unsafe { *current.current_cpu },
        None => std::ptr::null_mut(),
    })
}

/// Returns a number that identifies the vCPU that this thread runs; 0 if it is not known.
///
/// It is right even if QEMU's callbacks name the wrong vCPU.
pub fn running_vcpu() -> usize {
    current_cpu().addr()
}
