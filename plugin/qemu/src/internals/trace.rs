//! Whether somebody follows port accesses by QEMU's own trace events.

use std::ffi::c_void;

use super::lookup::lookup_export;

/// QEMU's trace events for accesses to regions, `memory_region_ops_*`.
pub struct PortTrace {
    /// How many traces of each are on: `uint16_t`s of QEMU's, for ever.
    events: [*mut c_void; 2],
}

// SAFETY: addresses of variables of QEMU's that any thread may read.
unsafe impl Send for PortTrace {}
// SAFETY: as above.
unsafe impl Sync for PortTrace {}

impl PortTrace {
    /// `None` where QEMU does not export them.
    pub fn find() -> Option<PortTrace> {
        let read = lookup_export(c"_TRACE_MEMORY_REGION_OPS_READ_DSTATE")?;
        let write = lookup_export(c"_TRACE_MEMORY_REGION_OPS_WRITE_DSTATE")?;
        Some(PortTrace { events: [read, write] })
    }

    /// Whether one is on, as the monitor may change at any time.
    pub fn is_on(&self) -> bool {
        // SAFETY: QEMU's own variables of this type, which it reads in the same way.
        self.events.iter().any(|&event| unsafe { event.cast::<u16>().read_volatile() } != 0)
    }
}
