//! QEMU's own trace of port accesses.

use std::sync::atomic::{AtomicU16, Ordering};

use super::symbols::TraceStates;

/// QEMU's trace events for accesses to regions, `memory_region_ops_*`.
pub struct PortTrace(TraceStates);

impl PortTrace {
    /// Finds the trace events; `None` if QEMU does not export them.
    pub fn find() -> Option<PortTrace> {
        TraceStates::find().ok().map(PortTrace)
    }

    /// Returns true if one is on. The monitor may change that at any time.
    pub fn is_on(&self) -> bool {
        let PortTrace(states) = self;
        let events = [
            states._TRACE_MEMORY_REGION_OPS_READ_DSTATE,
            states._TRACE_MEMORY_REGION_OPS_WRITE_DSTATE,
        ];
        events.into_iter().any(|event| {
            // SAFETY: QEMU's variable, for ever; QEMU itself reads and writes it without a lock.
            let event: &AtomicU16 = unsafe { &*event.as_ptr() };
            // Relaxed: the number is all that it tells. A change may be seen a little late, as by QEMU.
            event.load(Ordering::Relaxed) != 0
        })
    }
}
