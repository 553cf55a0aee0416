//! Tables of the code that makes hypercalls.

use std::borrow::Cow;

use maud::{Markup, html};

use super::accesses::chain;
use super::if_any;
use crate::report::table::HtmlTable;
use crate::stats::text_table::{number, percent};
use crate::stats::{CallCounts, CallSiteRow, Snapshot};

/// The calls of each call site.
pub(super) fn call_sites(dump: &Snapshot) -> HtmlTable<9> {
    let rows = &dump.call_sites;
    let calls = |row: &CallSiteRow| row.counts.calls;
    let total = rows.iter().map(calls).fold(0, u64::saturating_add);
    let columns = [
        "<Address",
        "<Of",
        ">Mode",
        "<Call",
        "<Symbol",
        ">Calls",
        ">% of these",
        if_any(rows.iter().any(|row| row.counts.accesses > 0), ">Accesses"),
        if_any(rows.iter().any(|row| row.counts.bytes > 0), ">Bytes"),
    ];
    HtmlTable::busiest("Call sites", columns, rows, calls, |row| {
        [
            row.pc.clone(),
            row.at.name().to_owned(),
            row.mode.map_or("-".to_owned(), |mode| mode.bits().to_string()),
            row.call.to_string(),
            row.label_with_source().map_or("-".to_owned(), Cow::into_owned),
            number(calls(row)),
            percent(calls(row), total),
            number(row.counts.accesses),
            number(row.counts.bytes),
        ]
    })
}

/// Renders the number of calls whose sites have no row.
pub(super) fn call_sites_dropped(dump: &Snapshot) -> Markup {
    let dropped = dump.call_sites_dropped_counts;
    html! {
        @if dropped != CallCounts::default() && !dump.call_sites.is_empty() {
            p { "Call sites that did not fit into the table made " (number(dropped.calls)) " calls." }
        }
    }
}

/// Renders the call chains of call sites.
pub(super) fn call_callers(dump: &Snapshot) -> Markup {
    let rows = &dump.call_callers;
    let total = rows.iter().map(|row| row.accesses).fold(0, u64::saturating_add);
    let columns = ["<Call site", ">Accesses", ">% of these", "<Callers, innermost first", "<End"];
    HtmlTable::busiest(
        "Call chains of hypercalls",
        columns,
        rows,
        |row| row.accesses,
        |row| chain(row.site(), row.accesses, total, (&row.frames, row.end)),
    )
    .render()
}
