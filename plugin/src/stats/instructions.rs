//! The interface to the counts of instructions of every kind (option `insns`).

use std::sync::Arc;

use crate::qemu::VcpuIndex;
use crate::sections::Sections;

/// Counts of instructions by vCPU and place. [`Sections::place`] numbers the places.
pub trait InstructionCounts: Send + Sync {
    /// The number of instructions that a vCPU has executed at a place.
    fn get(&self, vcpu: VcpuIndex, place: usize) -> u64;

    /// The sections that the places stand for.
    fn sections(&self) -> &Sections;
}

/// The counts of one vCPU.
pub(super) struct VcpuInstructions {
    pub counts: Arc<dyn InstructionCounts>,
    pub vcpu: VcpuIndex,
}

impl VcpuInstructions {
    /// The counts that are not 0, by place, ascending.
    pub fn rows(&self) -> Vec<(u32, [i64; 1])> {
        let places = 0..self.counts.sections().places();
        let rows = places.map(|place| (place as u32, [self.counts.get(self.vcpu, place) as i64]));
        rows.filter(|(_, count)| *count != [0]).collect()
    }
}
