//! Instructions of every kind: where their counts are read, and how much they say.

use std::sync::Arc;

use crate::qemu::VcpuIndex;
use crate::sections::Sections;

/// Where a vCPU's instructions are counted, by place: see [`Sections::place`].
pub trait InstructionCounts: Send + Sync {
    /// How many a vCPU has made there.
    fn get(&self, vcpu: VcpuIndex, place: usize) -> u64;

    /// The places.
    fn sections(&self) -> &Sections;
}

/// Those of one vCPU.
pub(super) struct VcpuInstructions {
    pub counts: Arc<dyn InstructionCounts>,
    pub vcpu: VcpuIndex,
}

impl VcpuInstructions {
    /// What is counted at each place, where it is not 0.
    pub fn rows(&self) -> Vec<(u32, [i64; 1])> {
        let places = 0..self.counts.sections().places();
        let rows = places.map(|place| (place as u32, [self.counts.get(self.vcpu, place) as i64]));
        rows.filter(|(_, count)| *count != [0]).collect()
    }
}
