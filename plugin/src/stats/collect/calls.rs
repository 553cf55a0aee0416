//! Rows of call sites.

use std::collections::HashMap;

use pvio_stats::{CallAccessRow, CallCounts, CallSiteRow};

use super::RowMaker;
use crate::stats::call_counters::{CallAccessKey, CallRowId};
use crate::stats::call_sites::CallSiteId;
use crate::stats::totals::Totals;

/// A row of `call_sites`.
pub(super) type CallRow = (CallSiteId, CallRowId, CallCounts);

fn call_counts([calls, accesses, bytes]: [u64; 3]) -> CallCounts {
    CallCounts { calls, accesses, bytes }
}

/// The counts of calls without a row among the call sites.
pub(super) fn dropped_call_counts(totals: &Totals) -> CallCounts {
    let rows = totals.call_sites.iter().map(|(row, counts)| (CallRowId(row as u32), counts));
    let dropped = rows.filter(|(row, _)| row.site().row().is_none()).map(|(_, counts)| counts);
    let sum = |sum: [u64; 3], counts: [u64; 3]| std::array::from_fn(|at| sum[at] + counts[at]);
    call_counts(dropped.fold([0; 3], sum))
}

/// The accesses of these rows of call sites, by port.
pub(super) fn call_access_rows(totals: &Totals, rows: &[CallRow]) -> Vec<CallAccessRow> {
    let indexes: HashMap<CallRowId, usize> =
        rows.iter().enumerate().map(|(index, &(_, row, _))| (row, index)).collect();
    let rows = totals.call_accesses.iter().filter_map(|(key, [accesses])| {
        let key = CallAccessKey(key as u32);
        let (dir, width) = key.row().call().port_io()?;
        let (site, port, size) = (*indexes.get(&key.row())?, key.port(), width.into());
        Some(CallAccessRow { site, port, dir, size, accesses })
    });
    let mut rows: Vec<_> = rows.collect();
    // Within a row, the totals have them by port.
    rows.sort_by_key(|row| row.site);
    rows
}

impl RowMaker<'_> {
    /// The rows of call sites that were counted, by address.
    pub(super) fn call_rows_in_order(&self, totals: &Totals) -> Vec<CallRow> {
        let rows = totals.call_sites.iter().filter_map(|(row, counts)| {
            let row = CallRowId(row as u32);
            Some((row.site().row()?, row, call_counts(counts)))
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|&(id, row, _)| {
            let site = self.call_sites.get(id);
            (site.key.pc, site.key.at, site.key.mode, row.call(), site.boot, id)
        });
        rows
    }

    pub(super) fn call_site_row(&self, (id, row, counts): CallRow) -> CallSiteRow {
        let key = self.call_sites.get(id).key;
        let name = self.call_sites.name_in(id, self.sites.boot(), self.names);
        CallSiteRow {
            pc: format!("{:#x}", key.pc),
            at: key.at,
            mode: Some(key.mode),
            source: name.as_ref().and_then(|name| name.source.clone()),
            named_by: name.as_ref().map(|name| name.named_by.clone()),
            symbol: name.map(|name| name.symbol),
            call: row.call(),
            counts,
        }
    }
}
