//! Watchpoints that a debugger on the host has set.

use super::c_types::CpuState;
use super::symbols::WatchpointQuery;

/// QEMU's query for watchpoints.
pub struct Watchpoints(WatchpointQuery);

impl Watchpoints {
    /// Finds the query; `None` if QEMU does not export it.
    pub fn find() -> Option<Watchpoints> {
        WatchpointQuery::find().ok().map(Watchpoints)
    }

    /// Returns true if some of `len` bytes are watched. Only for the vCPU that this thread runs.
    pub(super) fn any(&self, cpu: *mut CpuState, linear: u64, len: usize) -> bool {
        // SAFETY: a vCPU in a callback on its own thread, where QEMU itself asks this for each access to
        // a page that has a watchpoint.
        unsafe { (self.0.cpu_watchpoint_address_matches)(cpu, linear, len as u64) != 0 }
    }
}
