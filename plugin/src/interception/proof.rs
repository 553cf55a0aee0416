//! Learns which pages are RAM from accesses to memory, on a QEMU that reports it only for accesses.
//!
//! QEMU translates addresses by its TLB, which it brings up to date between two blocks at the latest. So what code has
//! told in a block is void after a write to a device in that block. When another vCPU has started or stopped, QEMU may
//! have looked at the request to bring the TLB up to date before pvio saw the new epoch; it does at the next block.

use std::sync::Arc;

use crate::qemu::{MemoryAccess, PhysicalPage, ProofEpoch, ProvenRam, Token};

/// The place of an instruction that accesses memory.
///
/// QEMU lets the last instruction of a block alone access a device (`can_do_io`, since 8.2). It gives up a block in which
/// another one tries, before the access, and translates that instruction again as a block of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessBy {
    /// It accesses no device.
    NotLast,
    /// It may access a device. QEMU does not tell.
    LastOfBlock,
}

impl From<AccessBy> for Token {
    fn from(by: AccessBy) -> Token {
        Token(by as u64)
    }
}

impl From<Token> for AccessBy {
    fn from(Token(by): Token) -> AccessBy {
        match by == AccessBy::NotLast as u64 {
            true => AccessBy::NotLast,
            false => AccessBy::LastOfBlock,
        }
    }
}

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

    /// An instruction that pvio watches has accessed memory, or a device.
    pub fn accessed(&mut self, by: AccessBy, access: &MemoryAccess<'_>) {
        match (by, access.page()) {
            (AccessBy::NotLast, Some(page)) if self.is_current => self.ram.prove(page, self.epoch),
            (AccessBy::LastOfBlock, page) if access.is_write() => {
                let is_ram = page.is_some_and(|page| self.ram.is_proven(page));
                if !is_ram {
                    self.writes_to_device();
                }
            }
            _ => {}
        }
    }

    /// The vCPU writes to a device, or has done so.
    pub fn writes_to_device(&mut self) {
        self.is_current = false;
        self.ram.withdraw();
    }
}
