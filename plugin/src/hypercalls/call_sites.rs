//! Finds the numbers of one vCPU's call sites, without a lock for those that it used before.

use std::sync::Arc;

use super::{Caller, Hypercalls};
use crate::kernel_boots::KernelBoots;
use crate::stats::{CallAt, CallSiteId, CallSiteKey, CallSites};

/// Number of entries. The cache is direct-mapped: a new site evicts the old one.
const ENTRIES: usize = 64;

/// One vCPU's call sites.
pub(super) struct VcpuCallSites {
    sites: Arc<CallSites>,
    /// `None` if names need no kernel.
    kernels: Option<Arc<KernelBoots>>,
    /// Each with the boot of its kernel.
    known: [Option<(u32, CallSiteKey, CallSiteId)>; ENTRIES],
}

impl VcpuCallSites {
    pub fn new(hypercalls: &Hypercalls) -> VcpuCallSites {
        let sites = Arc::clone(&hypercalls.statistics.call_sites);
        VcpuCallSites { sites, kernels: hypercalls.kernels.clone(), known: [None; ENTRIES] }
    }

    /// Returns the number of a call's site, in the boot of the kernel that runs.
    pub fn find(&mut self, boot: u32, key: CallSiteKey, caller: Caller) -> CallSiteId {
        let index = key.pc ^ key.pc >> 6 ^ key.pc >> 12;
        let known = &mut self.known[index as usize % ENTRIES];
        match known {
            Some((of_boot, of_key, id)) if (*of_boot, *of_key) == (boot, key) => *id,
            _ => {
                let code = match key.at {
                    CallAt::Instruction => caller.magic.bytes(key.mode),
                    CallAt::Return => &[],
                };
                let (id, is_new) = self.sites.enter(boot, key, code);
                if id.row().is_some() {
                    *known = Some((boot, key, id));
                }
                if is_new
                    && key.at == CallAt::Return
                    && let Some(kernels) = &self.kernels
                {
                    kernels.before_call(key.pc.wrapping_sub(1), key.mode, &[]);
                }
                id
            }
        }
    }
}
