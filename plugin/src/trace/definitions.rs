//! Finds what the numbers in a vCPU's events stand for.

use std::sync::Arc;

use pvio_stats::trace::{
    CallSiteDefinition, Define, ProcessDefinition, SiteDefinition, StackDefinition,
};

use crate::stats::{CallSiteId, SiteId, Statistics, VcpuCounters};

/// The definitions of the numbers in a vCPU's events.
pub(super) struct VcpuDefinitions {
    pub statistics: Arc<Statistics>,
    pub counters: Arc<VcpuCounters>,
}

impl Define for VcpuDefinitions {
    fn site(&self, site: u32) -> SiteDefinition {
        self.statistics.traced_site(SiteId(site))
    }

    fn call_site(&self, site: u32) -> CallSiteDefinition {
        self.statistics.traced_call_site(CallSiteId(site))
    }

    fn stack(&self, stack: u32) -> StackDefinition {
        self.counters.traced_stack(stack)
    }

    fn process(&self, process: u32) -> ProcessDefinition {
        self.statistics.traced_process(process)
    }
}
