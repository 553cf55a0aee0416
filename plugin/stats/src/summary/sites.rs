//! Tables of the code that makes accesses: sites, call chains, processes.

use std::borrow::Cow;

use pvio_x86::Port;

use super::{counted_as, most};
use crate::schema::{
    AccessRow, CallCallerRow, CallSiteRow, CallerRow, ChainEnd, FrameRow, ProcessRow, SiteRow,
    Snapshot,
};
use crate::text_table::{TextTable, number, percent};

pub(super) fn sites(snapshot: &Snapshot) -> String {
    let unverified = snapshot.sites.iter().any(|row| row.counts.unverified > 0);
    let accesses = |row: &SiteRow| row.counts.accesses;
    let total: u64 = snapshot.sites.iter().map(accesses).sum();
    let mut table = TextTable::new(&[
        "<address",
        ">mode",
        "<instruction",
        ">executions",
        ">accesses",
        ">%",
        if unverified { ">unverified" } else { "" },
        if snapshot.accesses.is_empty() { "" } else { "<ports" },
        "<symbol",
    ]);
    let ports = snapshot.ports_by_site();
    let rows: Vec<(usize, &SiteRow)> = snapshot.sites.iter().enumerate().collect();
    for &(index, row) in most(&rows, |(_, row)| accesses(row)) {
        table.row([
            row.pc.clone(),
            row.mode.map_or("-".to_string(), |mode| mode.bits().to_string()),
            row.insn.clone(),
            number(row.counts.executions),
            number(accesses(row)),
            percent(accesses(row), total),
            number(row.counts.unverified),
            ports_of(ports.get(&index)),
            row.label_with_source().map_or("-".to_string(), Cow::into_owned),
        ]);
    }
    table.render()
}

pub(super) fn call_sites(snapshot: &Snapshot) -> String {
    let calls = |row: &CallSiteRow| row.counts.calls;
    let total: u64 = snapshot.call_sites.iter().map(calls).sum();
    let has_ports = !snapshot.call_accesses.is_empty();
    let mut table = TextTable::new(&[
        "<address",
        "<of",
        ">mode",
        "<call",
        ">calls",
        ">%",
        ">accesses",
        ">bytes",
        if has_ports { "<ports" } else { "" },
        "<symbol",
    ]);
    let ports = snapshot.ports_by_call_site();
    let rows: Vec<(usize, &CallSiteRow)> = snapshot.call_sites.iter().enumerate().collect();
    for &(index, row) in most(&rows, |(_, row)| calls(row)) {
        let ports = ports.get(&index).into_iter().flatten().map(|row| row.port);
        table.row([
            row.pc.clone(),
            row.at.name().to_owned(),
            row.mode.map_or("-".to_string(), |mode| mode.bits().to_string()),
            row.call.to_string(),
            number(calls(row)),
            percent(calls(row), total),
            number(row.counts.accesses),
            number(row.counts.bytes),
            shown_ports(&ports.collect::<Vec<_>>()),
            row.label_with_source().map_or("-".to_string(), Cow::into_owned),
        ]);
    }
    table.render()
}

pub(super) fn processes(snapshot: &Snapshot) -> String {
    let unverified = snapshot.processes.iter().any(|row| row.counts.unverified > 0);
    let calls = snapshot.processes.iter().any(|row| row.hypercall > 0);
    let accesses = |row: &ProcessRow| row.counts.accesses;
    let total: u64 = snapshot.processes.iter().map(accesses).sum();
    let mut table = TextTable::new(&[
        ">pid",
        "<name",
        ">executions",
        ">accesses",
        ">%",
        ">by the kernel",
        if calls { ">by hypercall" } else { "" },
        if unverified { ">unverified" } else { "" },
    ]);
    // All accesses of a process with user code only may be unverified.
    for row in most(&snapshot.processes, |row| {
        accesses(row).max(row.counts.unverified).saturating_add(row.hypercall)
    }) {
        table.row([
            row.pid.map_or("-".to_string(), |pid| pid.to_string()),
            row.name().to_string(),
            number(row.counts.executions),
            number(accesses(row)),
            percent(accesses(row), total),
            number(row.kernel_accesses),
            number(row.hypercall),
            number(row.counts.unverified),
        ]);
    }
    table.render()
}

/// Maximum number of callers of a chain that the summary shows.
const CALLERS: usize = 6;

pub(super) fn callers(snapshot: &Snapshot) -> String {
    let accesses = |row: &CallerRow| row.accesses;
    let total: u64 = snapshot.callers.iter().map(accesses).sum();
    let mut table = TextTable::new(&[">accesses", ">%", "<site, then its callers"]);
    for row in most(&snapshot.callers, accesses) {
        let chain = chain(row.site(), &row.frames, row.end);
        table.row([number(row.accesses), percent(row.accesses, total), chain]);
    }
    table.render()
}

pub(super) fn call_callers(snapshot: &Snapshot) -> String {
    let accesses = |row: &CallCallerRow| row.accesses;
    let total: u64 = snapshot.call_callers.iter().map(accesses).sum();
    let mut table = TextTable::new(&[">accesses", ">%", "<call site, then its callers"]);
    for row in most(&snapshot.call_callers, accesses) {
        let chain = chain(row.site(), &row.frames, row.end);
        table.row([number(row.accesses), percent(row.accesses, total), chain]);
    }
    table.render()
}

/// A chain as `site < caller < caller ...`, without the offsets of callers.
fn chain(site: &str, frames: &[FrameRow], end: ChainEnd) -> String {
    let mut names = vec![site.to_owned()];
    for frame in frames.iter().take(CALLERS) {
        let interrupted = if frame.interrupted { "interrupted " } else { "" };
        names.push(format!("{interrupted}{}", frame.function()));
    }
    match (frames.len().saturating_sub(CALLERS), end) {
        (0, ChainEnd::Unknown) => names.push("?".to_owned()),
        (0, ChainEnd::Dropped) => names.push("no room".to_owned()),
        (0, ChainEnd::User) => names.push("user mode".to_owned()),
        (0, ChainEnd::Bottom) => {}
        (0, ChainEnd::Depth) => names.push("...".to_owned()),
        (more, _) => names.push(format!("{more} more")),
    }
    names.join(" < ")
}

/// Returns a line with the number of accesses that have an incomplete chain; `None` if there are none.
pub(super) fn without_chain(snapshot: &Snapshot) -> Option<String> {
    let with = |end: ChainEnd| -> u64 {
        let rows = snapshot.callers.iter().filter(|row| row.end == end);
        rows.map(|row| row.accesses).sum()
    };
    let parts: Vec<String> = [
        (ChainEnd::Unknown, "a chain whose next caller is unknown (?)"),
        (ChainEnd::Dropped, "a chain that did not fit into the table"),
    ]
    .into_iter()
    .filter(|&(end, _)| with(end) > 0)
    .map(|(end, what)| {
        let count = with(end);
        let has = if count == 1 { "has" } else { "have" };
        format!("{} {has} {what}", counted_as(count, "access", "accesses"))
    })
    .collect();
    (!parts.is_empty()).then(|| format!("  {}", parts.join("; ")))
}

/// The busiest ports of a site.
fn ports_of(rows: Option<&Vec<&AccessRow>>) -> String {
    let ports = rows.into_iter().flatten().map(|row| row.port);
    shown_ports(&ports.collect::<Vec<_>>())
}

fn shown_ports(ports: &[Port]) -> String {
    const SHOWN: usize = 2;
    let shown: Vec<String> = ports.iter().take(SHOWN).map(Port::to_string).collect();
    match ports.len().saturating_sub(SHOWN) {
        0 if ports.is_empty() => "-".to_owned(),
        0 => shown.join(" "),
        more => format!("{} +{more}", shown.join(" ")),
    }
}
