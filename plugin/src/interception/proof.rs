//! Learns which pages are RAM, where QEMU tells it of accesses alone.

use std::sync::Arc;

use crate::qemu::{MemoryAccess, ProvenRam};
use crate::x86::PAGE;

/// What one vCPU proves by its accesses to memory.
pub(super) struct VcpuProof {
    ram: Arc<ProvenRam>,
    /// The linear address of the page that was proven last: accesses to one page come in a row.
    last: u64,
}

impl VcpuProof {
    pub fn new(ram: Arc<ProvenRam>) -> VcpuProof {
        VcpuProof { ram, last: u64::MAX }
    }

    /// An instruction has accessed memory.
    pub fn accessed(&mut self, access: &MemoryAccess<'_>) {
        let page = access.linear() / PAGE;
        if page == self.last {
            return;
        }
        if let Some(physical) = access.ram_page() {
            self.ram.prove(physical);
            self.last = page;
        }
    }
}
