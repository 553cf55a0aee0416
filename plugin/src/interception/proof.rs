//! Learns which pages are RAM from accesses to memory, on a QEMU that reports it only for accesses.

use std::sync::Arc;

use crate::qemu::{MemoryAccess, ProvenRam};
use crate::x86::PAGE;

/// Proves pages to be RAM by one vCPU's accesses to memory.
pub(super) struct VcpuProof {
    ram: Arc<ProvenRam>,
    /// The linear address of the page that was proven last. Successive accesses are often to one page.
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
