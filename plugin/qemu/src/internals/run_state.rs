//! Whether the machine runs, for threads that wait in an access.

use super::current_cpu::running_vcpu;
use super::symbols::RunStateQuery;

/// The machine's run state.
pub struct RunState(RunStateQuery);

impl RunState {
    /// `None` if QEMU does not export the functions.
    pub fn find() -> Option<RunState> {
        RunStateQuery::find().ok().map(RunState)
    }

    /// Returns true if QEMU ends, or stops the vCPU that this thread runs.
    ///
    /// Then QEMU's main loop waits for this thread, so an access should end soon. On other threads, as of the
    /// monitor, a stopped machine is no reason to hurry.
    pub fn wants_thread_back(&self) -> bool {
        // SAFETY: both read one of QEMU's global variables, as QEMU itself does on any thread.
        let (is_running, shutdown) =
            unsafe { ((self.0.runstate_is_running)(), (self.0.qemu_shutdown_requested_get)()) };
        shutdown != 0 || !is_running && running_vcpu() != 0
    }
}
