//! Learns which pages are RAM, where QEMU tells it of accesses alone.
//!
//! QEMU translates addresses by its TLB, which it brings up to date between two blocks at the latest. So what code has
//! told in a block is void after a write to a device in that block. When another vCPU has started or stopped, QEMU may
//! have looked at the request to bring the TLB up to date before pvio saw the new epoch; it does at the next block.

use std::sync::Arc;

use crate::qemu::{MemoryAccess, PhysicalPage, ProofEpoch, ProvenRam};

/// What one vCPU proves by its blocks and its accesses to memory.
pub(super) struct VcpuProof {
    ram: Arc<ProvenRam>,
    /// True if the machine has one vCPU.
    is_only: bool,
    /// The epoch when the last watched block began.
    epoch: ProofEpoch,
    /// True if QEMU's TLB is up to date in this block.
    is_current: bool,
}

impl VcpuProof {
    /// A vCPU that starts to run.
    pub fn new(ram: Arc<ProvenRam>, is_only: bool) -> VcpuProof {
        VcpuProof { ram, is_only, epoch: ProofEpoch::default(), is_current: false }
    }

    /// A watched block begins, in this page.
    pub fn block_begins(&mut self, page: PhysicalPage) {
        let epoch = self.ram.epoch();
        self.is_current = self.is_only || self.epoch == epoch;
        self.epoch = epoch;
        if self.is_current {
            self.ram.prove(page, epoch);
        }
    }

    /// An instruction of a watched block, or the last one of any block, has accessed memory.
    ///
    /// QEMU accesses a device by the last instruction of a block alone.
    pub fn accessed(&mut self, access: &MemoryAccess<'_>) {
        match access.ram_page() {
            Some(page) if self.is_current => self.ram.prove(page, self.epoch),
            None if access.is_write() => self.writes_to_device(),
            _ => {}
        }
    }

    /// The vCPU writes to a device, or has done so.
    pub fn writes_to_device(&mut self) {
        self.is_current = false;
        self.ram.withdraw();
    }
}
