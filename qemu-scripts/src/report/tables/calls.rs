//! Tables of the code that makes hypercalls.

use std::borrow::Cow;
use std::cmp::Reverse;

use maud::{Markup, html};

use super::accesses::chain;
use super::if_any;
use crate::report::table::{HtmlTable, Link};
use crate::stats::text_table::{number, percent};
use crate::stats::{CallCounts, CallSiteRow, Snapshot};

/// Renders the calls of each call site, with the ports that they accessed.
pub(super) fn call_sites(dump: &Snapshot) -> Markup {
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
    let table = HtmlTable::busiest("Call sites", columns, rows, calls, |row| {
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
    });
    let by_site = dump.ports_by_call_site();
    let table = match by_site.is_empty() {
        true => table,
        false => table.with_links("call-site-", "Ports", |index| {
            let mut ports = by_site.get(&index).cloned().unwrap_or_default();
            ports.sort_by_key(|row| Reverse(row.accesses));
            let link = |text| Link { row: None, text };
            let text = |port, accesses| format!("{port} ({})", number(accesses));
            ports.into_iter().map(|row| link(text(row.port, row.accesses))).collect()
        }),
    };
    let dropped = dump.call_sites_dropped_counts;
    html! {
        (table.render())
        @if dropped != CallCounts::default() && !rows.is_empty() {
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
