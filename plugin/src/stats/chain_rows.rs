//! Makes rows of call chains: equal chains of all vCPUs are one row, and callers get names.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use pvio_stats::{CallerRow, ChainEnd, FrameRow};

use super::chains::stack_of_row;
use super::counters::{SITE_DROPPED, VcpuCounters};
use super::sites::{SiteId, Sites, agreed};
use super::totals::Totals;
use crate::guest::{Caller, End, Frame};
use crate::symbols::Names;

/// The names that callers had when their kernel last ended, by its boot; `None` if they had two.
#[derive(Default)]
pub(super) struct FrameNames(Mutex<HashMap<(u32, Caller), Option<String>>>);

impl FrameNames {
    /// Keeps the names of the running kernel's frames, because its boot ends.
    pub fn keep(&self, all_counters: &[Arc<VcpuCounters>], sites: &Sites, names: &Names<'_>) {
        let boot = sites.boot();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut named = HashSet::new();
        for chains in all_counters.iter().filter_map(|counters| counters.chains()) {
            for (site, caller) in chains.stacks().callers() {
                if sites.get(SiteId(site)).boot == boot
                    && named.insert(caller.clone())
                    && let Some(name) = names.caller(caller)
                {
                    let key = (boot, caller.clone());
                    let kept = all.entry(key).or_insert_with(|| Some(name.clone()));
                    kept.take_if(|kept| *kept != name);
                }
            }
        }
    }

    /// The name in the kernel of a boot; `now` is that in the kernel that runs, if it is the same.
    pub fn get(&self, boot: u32, caller: &Caller, now: Option<String>) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(&(boot, caller.clone())) {
            None => now,
            Some(kept) => agreed(kept, now),
        }
    }
}

/// Makes the rows of one dump.
pub(super) struct ChainRows<'a> {
    all_counters: &'a [Arc<VcpuCounters>],
    sites: &'a Sites,
    earlier: &'a FrameNames,
    names: &'a Names<'a>,
}

/// The identity of a row: chains with equal keys share it.
type Key = (SiteId, Vec<Caller>, ChainEnd);

impl<'a> ChainRows<'a> {
    pub fn new(
        all_counters: &'a [Arc<VcpuCounters>],
        sites: &'a Sites,
        earlier: &'a FrameNames,
        names: &'a Names<'a>,
    ) -> ChainRows<'a> {
        ChainRows { all_counters, sites, earlier, names }
    }

    /// The rows, by site, and of each the most frequent chains first.
    pub fn rows(&self, totals: &Totals) -> Vec<CallerRow> {
        let mut chains: BTreeMap<Key, u64> = BTreeMap::new();
        for (row, [accesses]) in totals.stacks.iter() {
            let (slot, stack) = stack_of_row(row);
            let counters = self.all_counters[slot].chains();
            let stacks = counters.expect("it has counted").stacks();
            let site = SiteId(stacks.site(stack));
            let key = match stacks.chain(stack) {
                None => (site, Vec::new(), ChainEnd::Unknown),
                Some((callers, why)) => (site, callers.to_vec(), chain_end(why)),
            };
            *chains.entry(key).or_default() += accesses;
        }
        for (row, [accesses]) in totals.no_stack.iter().filter(|&(row, _)| row != SITE_DROPPED) {
            let key = (SiteId(row as u32), Vec::new(), ChainEnd::Dropped);
            *chains.entry(key).or_default() += accesses;
        }
        let mut chains: Vec<_> = chains.into_iter().collect();
        let key_of = |site: SiteId| {
            let site = self.sites.get(site);
            (site.key.pc, site.key.mode, &site.key.bytes, site.boot)
        };
        chains.sort_by(|((a, ..), a_count), ((b, ..), b_count)| {
            key_of(*a).cmp(&key_of(*b)).then(b_count.cmp(a_count))
        });
        let mut known: HashMap<(u32, Caller), Option<String>> = HashMap::new();
        let rows = chains.into_iter().map(|((site, callers, end), accesses)| {
            let boot = self.sites.get(site).boot;
            let frames = callers.into_iter().map(|caller| {
                let (pc, interrupted) = match caller.frame {
                    Frame::Return(pc) => (pc, false),
                    Frame::Interrupted(pc) => (pc, true),
                };
                let symbol = match known.entry((boot, caller)) {
                    Entry::Occupied(name) => name.get().clone(),
                    Entry::Vacant(entry) => {
                        let (boot, caller) = entry.key();
                        let name = self.name(*boot, caller);
                        entry.insert(name).clone()
                    }
                };
                FrameRow { pc: format!("{pc:#x}"), symbol, interrupted }
            });
            let frames = frames.collect();
            let key = &self.sites.get(site).key;
            CallerRow {
                pc: format!("{:#x}", key.pc),
                mode: key.mode,
                bytes: key.bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                symbol: self.sites.name_in(site, self.names).map(|name| name.symbol),
                frames,
                end,
                accesses,
            }
        });
        rows.collect()
    }

    fn name(&self, boot: u32, caller: &Caller) -> Option<String> {
        let runs = boot == self.sites.boot();
        let now = if runs { self.names.caller(caller) } else { None };
        self.earlier.get(boot, caller, now)
    }
}

/// The end of a chain, as a dump has it.
pub(super) fn chain_end(end: End) -> ChainEnd {
    match end {
        End::UserMode => ChainEnd::User,
        End::Bottom => ChainEnd::Bottom,
        End::Unknown => ChainEnd::Unknown,
        End::TooDeep => ChainEnd::Depth,
    }
}
