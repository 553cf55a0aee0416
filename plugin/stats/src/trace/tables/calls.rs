//! Rows of call sites.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::super::tally::{Totals, call};
use super::{RowMaker, clamp};
use crate::trace::event::CallSiteDefinition;
use crate::{Call, CallAccessRow, CallCallerRow, CallCounts, CallSiteRow, ChainEnd};

/// A row of `call_sites`: the number of the site, its definition, the call, and the counts.
pub(super) type CallRow<'a> = (u32, &'a CallSiteDefinition, Call, CallCounts);

fn call_counts(counts: &[i64; 3]) -> CallCounts {
    let counts = clamp(counts);
    CallCounts {
        calls: counts[call::CALLS],
        accesses: counts[call::ACCESSES],
        bytes: counts[call::BYTES],
    }
}

/// The counts of calls without a row among the call sites.
pub(super) fn dropped_call_counts(totals: &Totals) -> CallCounts {
    let mut sum = [0i64; 3];
    for ((_, _), counts) in totals.call_sites.iter().filter(|((site, _), _)| site.is_none()) {
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.wrapping_add(*count));
    }
    call_counts(&sum)
}

/// The accesses of the rows of call sites, by port.
pub(super) fn call_access_rows(totals: &Totals, rows: &[CallRow<'_>]) -> Vec<CallAccessRow> {
    let indexes: HashMap<(u32, Call), usize> =
        rows.iter().enumerate().map(|(index, &(site, _, call, _))| ((site, call), index)).collect();
    let rows = totals.call_accesses.iter().filter_map(|(&(site, call, port), counts)| {
        let [accesses] = clamp(counts);
        let &site = indexes.get(&(site, call))?;
        let (dir, width) = call.port_io()?;
        (accesses > 0).then_some(CallAccessRow { site, port, dir, size: width.into(), accesses })
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable_by_key(|row| (row.site, row.port));
    rows
}

impl RowMaker<'_> {
    /// The rows of call sites that were counted, in order.
    pub(super) fn call_sites_in_order(&self, totals: &Totals) -> Vec<CallRow<'_>> {
        let rows = totals.call_sites.iter().filter_map(|(&(site, call), counts)| {
            let counts = call_counts(counts);
            let definition = self.definitions.call_site(site?)?;
            (counts != CallCounts::default()).then_some((site?, definition, call, counts))
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_unstable_by_key(|&(site, definition, call, _)| {
            (definition.pc, definition.at, definition.mode, call, definition.boot, site)
        });
        rows
    }

    pub(super) fn call_site_row(
        &self,
        (site, definition, call, counts): CallRow<'_>,
    ) -> CallSiteRow {
        let names = self.call_names.get(&site);
        CallSiteRow {
            pc: format!("{:#x}", definition.pc),
            at: definition.at,
            mode: Some(definition.mode),
            symbol: names.map(|names| names.symbol.clone()),
            named_by: names.map(|names| names.named_by.clone()),
            source: names.and_then(|names| names.source.clone()),
            call,
            counts,
        }
    }

    /// The rows of call chains, by call site, and of each the most frequent first.
    pub(super) fn call_caller_rows(&self, totals: &Totals) -> Vec<CallCallerRow> {
        let mut chains: BTreeMap<(u32, &[usize], ChainEnd), u64> = BTreeMap::new();
        for (&(site, stack), counts) in &totals.call_stacks {
            let [accesses] = clamp(counts);
            let (frames, end) = match self.chains.by_stack.get(&stack) {
                None => (&[][..], ChainEnd::Unknown),
                Some((frames, end)) => (&frames[..], *end),
            };
            let Some(definition) = self.definitions.call_site(site) else { continue };
            let pc_of = |&index: &usize| {
                let frame = self.chains.frames.get(index)?;
                (!frame.interrupted).then_some(frame.pc)
            };
            let frames = definition.at.callers_of_site(definition.pc, frames, pc_of);
            if accesses > 0 {
                *chains.entry((site, frames, end)).or_default() += accesses;
            }
        }
        for (&site, counts) in &totals.no_call_stack {
            let [accesses] = clamp(counts);
            if accesses > 0 {
                *chains.entry((site, &[], ChainEnd::Dropped)).or_default() += accesses;
            }
        }
        let rows = chains.into_iter().filter_map(|(key, accesses)| {
            Some((self.definitions.call_site(key.0)?, key, accesses))
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|&(site, _, accesses)| {
            (site.pc, site.at, site.mode, site.boot, Reverse(accesses))
        });
        rows.into_iter()
            .map(|(definition, (site, frames, end), accesses)| CallCallerRow {
                pc: format!("{:#x}", definition.pc),
                at: definition.at,
                mode: Some(definition.mode),
                symbol: self.call_names.get(&site).map(|names| names.symbol.clone()),
                frames: frames.iter().filter_map(|&index| self.frame(index)).collect(),
                end,
                accesses,
            })
            .collect()
    }
}
