//! Tables of ports, and of the code that accesses them.

use std::borrow::Cow;

use maud::{Markup, html};

use super::{if_any, yes_or_no};
use crate::report::table::HtmlTable;
use crate::stats::text_table::{number, percent, printable};
use crate::stats::{ChainEnd, FirstAccess, FrameRow, PortRow, Snapshot, ValueMoment, timeline};

/// Ports that no device serves, in the order of their first access.
pub(super) fn first_unserved(dump: &Snapshot) -> Markup {
    let rows = dump.ports.iter().filter(|row| row.served == Some(false));
    let mut rows: Vec<(&FirstAccess, &PortRow)> =
        rows.filter_map(|row| Some((row.first.as_ref()?, row))).collect();
    rows.sort_by_key(|(first, _)| first.rank);
    let columns = [
        ">Order",
        "<Port",
        "<Usual name",
        "<Direction",
        ">Bytes",
        ">Accesses",
        "<First by",
        "<Symbol",
    ];
    HtmlTable::new(
        "Ports that no device serves, in the order of their first access",
        columns,
        &rows,
        |(_, row)| row.accesses(),
        |(first, row)| {
            [
                number(first.rank),
                row.port.to_string(),
                row.name.as_deref().unwrap_or("-").to_owned(),
                row.dir.to_string(),
                row.size.to_string(),
                number(row.accesses()),
                first.by().to_owned(),
                first.symbol.as_deref().unwrap_or("-").to_owned(),
            ]
        },
    )
    .render()
}

/// Renders the values at ports, in the order of their first accesses.
pub(super) fn values(dump: &Snapshot) -> Markup {
    let rows = timeline(&dump.values);
    let has_times = rows.iter().any(|row| row.first.is_some());
    let unverified = rows.iter().any(|row| row.counts.unverified > 0);
    let columns = [
        "<Port",
        "<Direction",
        ">Bytes",
        ">Value",
        ">Accesses",
        if_any(unverified, ">Unverified"),
        if_any(has_times, ">First, seconds"),
        if_any(has_times, ">Last, seconds"),
        if_any(has_times, ">Accesses before the first"),
        if_any(has_times, ">Accesses before the last"),
    ];
    let seconds = |moment: Option<ValueMoment>| moment.map_or("-".to_owned(), |at| at.seconds());
    let accesses =
        |moment: Option<ValueMoment>| moment.map_or("-".to_owned(), |at| number(at.accesses));
    let table = HtmlTable::new(
        "Values at ports, in the order of their first accesses",
        columns,
        &rows,
        |row| row.counts.accesses,
        |row| {
            [
                row.port.to_string(),
                row.dir.to_string(),
                row.size.to_string(),
                row.value_text(),
                number(row.counts.accesses),
                number(row.counts.unverified),
                seconds(row.first),
                seconds(row.last),
                accesses(row.first),
                accesses(row.last),
            ]
        },
    );
    let dropped = dump.values_dropped.accesses + dump.values_dropped.unverified;
    html! {
        (table.render())
        @if let Some(clock) = &dump.values_clock { @if !rows.is_empty() {
            p { "Times are by the " (printable(clock)) "'s clock." }
        } }
        @if dropped > 0 { p { (number(dropped)) " accesses had values that did not fit into the table." } }
    }
}

/// The ports that the guest accessed.
pub(super) fn ports(dump: &Snapshot) -> HtmlTable<11> {
    let rows = &dump.ports;
    let total = dump.accesses();
    let any = |column: fn(&PortRow) -> u64| rows.iter().any(|row| column(row) > 0);
    let columns = [
        "<Port",
        "<Name",
        "<Direction",
        ">Bytes",
        ">Accesses",
        ">% of all",
        if_any(any(|row| row.device), ">By pvio's devices"),
        if_any(any(|row| row.qemu), ">By QEMU"),
        if_any(any(|row| row.hypercall), ">By hypercall"),
        if_any(any(|row| row.unverified), ">Unverified"),
        "<Device present",
    ];
    HtmlTable::busiest("Ports", columns, rows, PortRow::accesses, |row| {
        [
            row.port.to_string(),
            row.name.as_deref().unwrap_or("-").to_owned(),
            row.dir.to_string(),
            row.size.to_string(),
            number(row.accesses()),
            percent(row.accesses(), total),
            number(row.device),
            number(row.qemu),
            number(row.hypercall),
            number(row.unverified),
            row.served.map_or("unknown".to_owned(), yes_or_no),
        ]
    })
}

/// The instructions that accessed ports.
pub(super) fn sites(dump: &Snapshot) -> HtmlTable<8> {
    let rows = &dump.sites;
    let total = dump.accesses();
    let unverified = rows.iter().any(|row| row.counts.unverified > 0);
    let columns = [
        "<Address",
        ">Mode",
        "<Instruction",
        "<Symbol",
        ">Executions",
        ">Accesses",
        ">% of all",
        if_any(unverified, ">Unverified"),
    ];
    HtmlTable::busiest(
        "Sites",
        columns,
        rows,
        |row| row.counts.accesses,
        |row| {
            [
                row.pc.clone(),
                row.mode.map_or("-".to_owned(), |mode| mode.bits().to_string()),
                row.insn.clone(),
                row.label_with_source().map_or("-".to_owned(), Cow::into_owned),
                number(row.counts.executions),
                number(row.counts.accesses),
                percent(row.counts.accesses, total),
                number(row.counts.unverified),
            ]
        },
    )
}

/// The cells of a call chain: its site, accesses and their share of `total`, its callers and its end.
pub(super) fn chain(
    site: &str,
    accesses: u64,
    total: u64,
    (frames, end): (&[FrameRow], ChainEnd),
) -> [String; 5] {
    let callers = frames.iter().map(|frame| match frame.interrupted {
        true => format!("interrupted {}", frame.name()),
        false => frame.name().to_owned(),
    });
    [
        site.to_owned(),
        number(accesses),
        percent(accesses, total),
        callers.collect::<Vec<_>>().join(" < "),
        end.name().to_owned(),
    ]
}

/// Maximum number of call chains: each row is long, and the flame graph shows the sum of them all.
const MAX_CHAINS: usize = 500;

pub(super) fn callers(dump: &Snapshot) -> Markup {
    let rows = &dump.callers;
    let total = dump.accesses();
    let columns = ["<Site", ">Accesses", ">% of all", "<Callers, innermost first", "<End"];
    HtmlTable::busiest(
        "Call chains",
        columns,
        rows,
        |row| row.accesses,
        |row| chain(row.site(), row.accesses, total, (&row.frames, row.end)),
    )
    .at_most(MAX_CHAINS)
    .render()
}

pub(super) fn processes(dump: &Snapshot) -> Markup {
    let rows = &dump.processes;
    let total = dump.accesses();
    let unverified = rows.iter().any(|row| row.counts.unverified > 0);
    let columns = [
        ">PID",
        "<Name",
        ">Executions",
        ">Accesses",
        ">% of all",
        ">By the kernel",
        if_any(rows.iter().any(|row| row.hypercall > 0), ">By hypercall"),
        if_any(unverified, ">Unverified"),
    ];
    HtmlTable::busiest(
        "Processes",
        columns,
        rows,
        |row| row.counts.accesses,
        |row| {
            [
                row.pid.map_or("-".to_owned(), |pid| pid.to_string()),
                row.name().to_owned(),
                number(row.counts.executions),
                number(row.counts.accesses),
                percent(row.counts.accesses, total),
                number(row.kernel_accesses),
                number(row.hypercall),
                number(row.counts.unverified),
            ]
        },
    )
    .render()
}
