//! Makes rows of call chains: equal chains of all vCPUs are one row, and callers get names.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use pvio_stats::{CallCallerRow, CallerRow, ChainEnd, FrameRow};

use super::call_sites::{CallSiteId, CallSites};
use super::chains::{StackOwner, stack_of_row};
use super::counters::VcpuCounters;
use super::sites::{SiteId, Sites, agreed};
use super::totals::Totals;
use crate::guest::{Caller, End, Frame};
use crate::symbols::Names;

/// The names that callers had when their kernel last ended, by its boot; `None` if they had two.
#[derive(Default)]
pub(super) struct FrameNames(Mutex<HashMap<(u32, Caller), Option<String>>>);

impl FrameNames {
    /// Keeps the names of the running kernel's frames, because its boot ends.
    pub fn keep(
        &self,
        all_counters: &[Arc<VcpuCounters>],
        (sites, call_sites): (&Sites, &CallSites),
        names: &Names<'_>,
    ) {
        let boot = sites.boot();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut named = HashSet::new();
        for chains in all_counters.iter().filter_map(|counters| counters.chains()) {
            for (owner, caller) in chains.stacks().callers() {
                if boot_of(StackOwner::of_number(owner), sites, call_sites) == boot
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

/// The boot of the kernel that runs code.
pub(super) fn boot_of(owner: StackOwner, sites: &Sites, call_sites: &CallSites) -> u32 {
    match owner {
        StackOwner::Site(site) => sites.get(site).boot,
        StackOwner::Call(site) => call_sites.get(site).boot,
    }
}

/// Makes the rows of one dump.
pub(super) struct ChainRows<'a> {
    all_counters: &'a [Arc<VcpuCounters>],
    sites: &'a Sites,
    call_sites: &'a CallSites,
    earlier: &'a FrameNames,
    names: &'a Names<'a>,
}

/// The identity of a row: chains with equal keys share it.
type Key = (StackOwner, Vec<Caller>, ChainEnd);

/// A chain of code, and its accesses.
type Chain<Id> = (Id, Vec<Caller>, ChainEnd, u64);

impl<'a> ChainRows<'a> {
    pub fn new(
        all_counters: &'a [Arc<VcpuCounters>],
        (sites, call_sites): (&'a Sites, &'a CallSites),
        earlier: &'a FrameNames,
        names: &'a Names<'a>,
    ) -> ChainRows<'a> {
        ChainRows { all_counters, sites, call_sites, earlier, names }
    }

    /// The rows of sites and of call sites, in the order of these, and of each the most frequent chains first.
    pub fn rows(&self, totals: &Totals) -> (Vec<CallerRow>, Vec<CallCallerRow>) {
        let (mut of_sites, mut of_calls) = (Vec::new(), Vec::new());
        for ((owner, callers, end), accesses) in self.chains(totals) {
            match owner {
                StackOwner::Site(site) => of_sites.push((site, callers, end, accesses)),
                StackOwner::Call(site) => of_calls.push((site, callers, end, accesses)),
            }
        }
        let mut frames = FrameRows { rows: self, known: HashMap::new() };
        (self.site_rows(of_sites, &mut frames), self.call_rows(of_calls, &mut frames))
    }

    fn chains(&self, totals: &Totals) -> BTreeMap<Key, u64> {
        let mut chains: BTreeMap<Key, u64> = BTreeMap::new();
        for (row, [accesses]) in totals.stacks.iter() {
            let (slot, stack) = stack_of_row(row);
            let counters = self.all_counters[slot].chains();
            let stacks = counters.expect("it has counted").stacks();
            let owner = StackOwner::of_number(stacks.site(stack));
            let key = match stacks.chain(stack) {
                None => (owner, Vec::new(), ChainEnd::Unknown),
                Some((callers, why)) => {
                    (owner, self.callers_of(owner, callers).to_vec(), chain_end(why))
                }
            };
            *chains.entry(key).or_default() += accesses;
        }
        let is_dropped = |row| row == StackOwner::DROPPED as usize;
        for (row, [accesses]) in totals.no_stack.iter().filter(|&(row, _)| !is_dropped(row)) {
            let key = (StackOwner::of_number(row as u32), Vec::new(), ChainEnd::Dropped);
            *chains.entry(key).or_default() += accesses;
        }
        chains
    }

    /// The callers of code, without those that make a call on behalf of its site.
    fn callers_of<'c>(&self, owner: StackOwner, callers: &'c [Caller]) -> &'c [Caller] {
        let StackOwner::Call(site) = owner else { return callers };
        let key = self.call_sites.get(site).key;
        key.at.callers_of_site(key.pc, callers, |caller| match caller.frame {
            Frame::Return(pc) => Some(pc),
            Frame::Interrupted(_) => None,
        })
    }

    fn site_rows(
        &self,
        mut chains: Vec<Chain<SiteId>>,
        frames: &mut FrameRows<'_>,
    ) -> Vec<CallerRow> {
        let key_of = |site: SiteId| {
            let site = self.sites.get(site);
            (site.key.pc, site.key.mode, &site.key.bytes, site.boot)
        };
        chains.sort_by(|(a, .., a_count), (b, .., b_count)| {
            key_of(*a).cmp(&key_of(*b)).then(b_count.cmp(a_count))
        });
        let rows = chains.into_iter().map(|(site, callers, end, accesses)| {
            let key = &self.sites.get(site).key;
            CallerRow {
                pc: format!("{:#x}", key.pc),
                mode: key.mode,
                bytes: key.bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                symbol: self.sites.name_in(site, self.names).map(|name| name.symbol),
                frames: frames.of(self.sites.get(site).boot, callers),
                end,
                accesses,
            }
        });
        rows.collect()
    }

    fn call_rows(
        &self,
        mut chains: Vec<Chain<CallSiteId>>,
        frames: &mut FrameRows<'_>,
    ) -> Vec<CallCallerRow> {
        let key_of = |site: CallSiteId| {
            let site = self.call_sites.get(site);
            (site.key.pc, site.key.at, site.key.mode, site.boot)
        };
        chains.sort_by(|(a, .., a_count), (b, .., b_count)| {
            key_of(*a).cmp(&key_of(*b)).then(b_count.cmp(a_count))
        });
        let rows = chains.into_iter().map(|(site, callers, end, accesses)| {
            let key = self.call_sites.get(site).key;
            let name = self.call_sites.name_in(site, self.sites.boot(), self.names);
            CallCallerRow {
                pc: format!("{:#x}", key.pc),
                at: key.at,
                mode: Some(key.mode),
                symbol: name.map(|name| name.symbol),
                frames: frames.of(self.call_sites.get(site).boot, callers),
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

/// Makes rows of callers, each of which is named once.
struct FrameRows<'a> {
    rows: &'a ChainRows<'a>,
    known: HashMap<(u32, Caller), Option<String>>,
}

impl FrameRows<'_> {
    fn of(&mut self, boot: u32, callers: Vec<Caller>) -> Vec<FrameRow> {
        let row = |caller: Caller| {
            let (pc, interrupted) = match caller.frame {
                Frame::Return(pc) => (pc, false),
                Frame::Interrupted(pc) => (pc, true),
            };
            let symbol = match self.known.entry((boot, caller)) {
                Entry::Occupied(name) => name.get().clone(),
                Entry::Vacant(entry) => {
                    let (boot, caller) = entry.key();
                    let name = self.rows.name(*boot, caller);
                    entry.insert(name).clone()
                }
            };
            FrameRow { pc: format!("{pc:#x}"), symbol, interrupted }
        };
        callers.into_iter().map(row).collect()
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
