//! Tables of ports, and of the code that accesses them.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use maud::{Markup, html};

use super::{if_any, yes_or_no};
use crate::report::table::{HtmlTable, Link};
use crate::stats::text_table::{number, percent, printable};
use crate::stats::{
    AccessRow, ChainEnd, FirstAccess, FrameRow, PortRow, Snapshot, ValueMoment, timeline,
};

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

/// Ports and sites, which link to each other.
pub(super) fn ports_and_sites(dump: &Snapshot) -> Markup {
    let (ports, sites) = (ports(dump), sites(dump));
    if dump.accesses.is_empty() {
        return html! { (ports.render()) (sites.render()) };
    }
    let shown = |indexes: &[usize]| indexes.iter().copied().collect::<HashSet<usize>>();
    let (shown_ports, shown_sites) = (shown(ports.indexes()), shown(sites.indexes()));
    let rows = dump.ports.iter().enumerate();
    let numbers: HashMap<_, usize> =
        rows.map(|(index, row)| ((row.port, row.dir, row.size), index)).collect();
    let mut by_port: HashMap<usize, Vec<&AccessRow>> = HashMap::new();
    for row in &dump.accesses {
        if let Some(&port) = numbers.get(&(row.port, row.dir, row.size)) {
            by_port.entry(port).or_default().push(row);
        }
    }
    for rows in by_port.values_mut() {
        rows.sort_by_key(|row| Reverse(row.counts.accesses));
    }
    let by_site = dump.ports_by_site();
    let to_site = |row: &&AccessRow| {
        let site = dump.site_of(row);
        let name = site.map_or("?", |site| site.symbol.as_deref().unwrap_or(&site.pc));
        let text = format!("{name} ({})", number(row.counts.accesses));
        Link { row: shown_sites.contains(&row.site).then(|| format!("site-{}", row.site)), text }
    };
    let to_port = |row: &&AccessRow| {
        let number_of_port = numbers.get(&(row.port, row.dir, row.size));
        let text = format!("{} ({})", row.port, number(row.counts.accesses));
        let shown = number_of_port.filter(|index| shown_ports.contains(index));
        Link { row: shown.map(|index| format!("port-{index}")), text }
    };
    let ports = ports.with_links("port-", "Sites", |index| {
        by_port.get(&index).map(|rows| rows.iter().map(to_site).collect()).unwrap_or_default()
    });
    let sites = sites.with_links("site-", "Ports", |index| {
        by_site.get(&index).map(|rows| rows.iter().map(to_port).collect()).unwrap_or_default()
    });
    html! { (ports.render()) (sites.render()) }
}

fn ports(dump: &Snapshot) -> HtmlTable<11> {
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

fn sites(dump: &Snapshot) -> HtmlTable<8> {
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
    let total: u64 = rows.iter().map(|row| row.accesses).sum();
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
