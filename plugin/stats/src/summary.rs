//! The summary: a snapshot as text tables.

use std::borrow::Cow;
use std::fmt::Write;

use crate::schema::{
    AccessCounts, AccessRow, CallerRow, ChainEnd, Counts, FirstAccess, HypercallRow, Instructions,
    PortRow, ProcessRow, SiteRow, Snapshot, Tables,
};
use crate::text_table::{TextTable, number, percent, printable};
use crate::totals::FormCounts;
use crate::values::timeline;

/// The most ports and sites that the summary shows, the busiest first. The dump has all.
const BUSIEST: usize = 16;

const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// Renders a snapshot as text tables, with a newline at the end.
///
/// `colour` makes headings bold, by the escape sequences of a terminal.
pub fn render(snapshot: &Snapshot, colour: bool) -> String {
    let mut text = String::new();
    let heading = |text: &mut String, line: &str| {
        let (on, off) = if colour { (BOLD, PLAIN) } else { ("", "") };
        let _ = writeln!(text, "{on}{}{off}", printable(line));
    };
    let section = |text: &mut String, title: &str, table: String| {
        text.push('\n');
        heading(text, title);
        text.push_str(&table);
    };
    heading(&mut text, &title(snapshot));
    let _ = writeln!(text, "{}", overview(snapshot));
    section(&mut text, "The 24 forms", forms(snapshot));
    if !snapshot.forms_undecided.is_empty() {
        let title = "Undecided forms, of code of unknown mode";
        section(&mut text, title, forms_undecided(snapshot));
    }
    if !snapshot.hypercalls.is_empty() {
        section(&mut text, "Hypercalls", hypercalls(snapshot));
    }
    if !snapshot.ports.is_empty() {
        let title = busiest("ports, by direction and size", snapshot.ports.len());
        section(&mut text, &title, ports(snapshot));
        match first_unserved(snapshot) {
            Some((title, table)) => section(&mut text, &title, table),
            None => text += &unserved(snapshot),
        }
    }
    if !snapshot.values.is_empty() {
        let (title, table) = values(snapshot);
        section(&mut text, &title, table);
    }
    if snapshot.values_dropped != AccessCounts::default() {
        let AccessCounts { accesses, unverified } = snapshot.values_dropped;
        let dropped = counted_as(accesses + unverified, "access", "accesses");
        let _ = writeln!(text, "  {dropped} of more values found no room");
    }
    if !snapshot.sites.is_empty() {
        section(&mut text, &busiest("sites", snapshot.sites.len()), sites(snapshot));
        if let Some(sources) = snapshot.name_sources() {
            let _ = writeln!(text, "  names: {}", printable(&sources));
        }
    }
    if snapshot.sites_dropped > 0 {
        let _ = writeln!(
            text,
            "{} found no room among the sites, and made {}",
            counted_as(snapshot.sites_dropped, "translated instruction", "translated instructions"),
            counted_as(snapshot.sites_dropped_counts.accesses, "access", "accesses"),
        );
    }
    if !snapshot.callers.is_empty() {
        let title = busiest("call chains", snapshot.callers.len());
        section(&mut text, &title, callers(snapshot));
        if let Some(rest) = without_chain(snapshot) {
            let _ = writeln!(text, "{rest}");
        }
    }
    if !snapshot.processes.is_empty() {
        section(&mut text, &busiest("processes", snapshot.processes.len()), processes(snapshot));
    }
    let dropped = snapshot.processes_dropped_counts;
    if dropped != Counts::default() {
        let accesses = counted_as(dropped.accesses, "access", "accesses");
        let _ = writeln!(text, "processes that found no room made {accesses}");
    }
    if !snapshot.sections.is_empty() {
        section(&mut text, "Instructions by section", sections(snapshot));
    }
    if snapshot.vcpus.len() > 1 {
        section(&mut text, "vCPUs", vcpus(snapshot));
    }
    if let Some(why) = &snapshot.vcpus_omitted {
        let _ = writeln!(text, "\nNo rows by vCPU: {}", printable(why));
    }
    if !snapshot.windows.is_empty() {
        section(&mut text, "Windows", windows(snapshot));
    }
    text
}

fn title(snapshot: &Snapshot) -> String {
    let qemu = &snapshot.qemu;
    let ended = match &*snapshot.ended {
        "running" => "still running".to_string(),
        how => format!("ended by {how}"),
    };
    format!(
        "pvio {}: QEMU {} ({}, plugin API {}), {ended}",
        snapshot.pvio,
        qemu.version.as_deref().unwrap_or("of unknown version"),
        qemu.target,
        qemu.plugin_api,
    )
}

fn overview(snapshot: &Snapshot) -> String {
    let total = total_of(snapshot.form_counts());
    let of = if total.has_all_bytes { "of" } else { "of at least" };
    let mut line = format!(
        "{} {of} {} by {}",
        counted_as(total.accesses, "port access", "port accesses"),
        counted_as(total.bytes, "byte", "bytes"),
        counted_as(total.executions, "execution", "executions"),
    );
    match total.faults {
        Some(0) => {}
        Some(faults) => {
            let _ = write!(line, "; {} faulted", counted_as(faults, "attempt", "attempts"));
        }
        None if total.unverified > 0 => {
            let _ = write!(
                line,
                "; {} more {} made or faulted, which QEMU before 11.0 does not report",
                number(total.unverified),
                was(total.unverified),
            );
        }
        None => {}
    }
    if total.exits > 0 {
        let (exits, was) = (number(total.exits), was(total.exits));
        let _ = write!(line, "; {exits} {was} intercepted by a hypervisor");
    }
    let calls = hypercalls_made(snapshot);
    if calls > 0 {
        let calls = counted_as(calls, "hypercall", "hypercalls");
        match snapshot.ports.iter().map(|row| row.hypercall).sum() {
            0 => line += &format!("; {calls} that accessed no port"),
            accesses => line += &format!("; {calls} made {} more", number(accesses)),
        }
    }
    if let Some(count) = snapshot.instructions.instructions {
        let _ = write!(line, "; {}", counted_as(count, "instruction", "instructions"));
    }
    if let Some(count) = snapshot.instructions.instructions_unverified {
        let count = counted_as(count, "instruction", "instructions");
        let _ = write!(line, "; {count} began, of which some may have faulted");
    }
    line
}

/// A count with its noun: `1 access`, `2 accesses`.
fn counted_as(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

fn was(count: u64) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

fn sections(snapshot: &Snapshot) -> String {
    let total = snapshot.instructions.counted().unwrap_or(0);
    let mut table = TextTable::new(&["<section", "<from", "<to", ">instructions", ">%"]);
    let mut row = |name: &str, start: &str, end: &str, count| {
        let [name, start, end] = [name, start, end].map(str::to_owned);
        table.row([name, start, end, number(count), percent(count, total)]);
    };
    let mut elsewhere = total;
    for section in &snapshot.sections {
        let count = section.instructions.counted().unwrap_or(0);
        elsewhere -= count.min(elsewhere);
        row(&section.name.escape_debug().to_string(), &section.start, &section.end, count);
    }
    row("elsewhere", "", "", elsewhere);
    table.render()
}

/// The sum of all forms.
struct Total {
    attempts: u64,
    executions: u64,
    accesses: u64,
    /// The bytes of accesses of known size.
    bytes: u64,
    has_all_bytes: bool,
    faults: Option<u64>,
    exits: u64,
    unverified: u64,
}

fn total_of(rows: impl Iterator<Item = FormCounts>) -> Total {
    let rows: Vec<FormCounts> = rows.collect();
    let sum = |column: fn(&FormCounts) -> u64| rows.iter().map(column).sum();
    Total {
        attempts: sum(|row| row.attempts),
        executions: sum(|row| row.executions),
        accesses: sum(|row| row.accesses),
        bytes: sum(|row| row.bytes.unwrap_or(0)),
        has_all_bytes: rows.iter().all(|row| row.bytes.is_some()),
        faults: rows.iter().map(|row| row.faults).sum(),
        exits: sum(|row| row.exits.unwrap_or(0)),
        unverified: sum(|row| row.unverified),
    }
}

fn forms(snapshot: &Snapshot) -> String {
    let total = total_of(snapshot.forms.iter().map(FormCounts::from));
    // A QEMU that does not report faults leaves unverified attempts instead.
    let last = if total.faults.is_some() { ">faults" } else { ">unverified" };
    let exits = if total.exits > 0 { ">exits" } else { "" };
    let columns = ["<form", ">attempts", ">executions", ">accesses", ">%", ">bytes", last, exits];
    let mut table = TextTable::new(&columns);
    for row in &snapshot.forms {
        table.row([
            row.form.name().to_string(),
            number(row.attempts),
            number(row.executions),
            number(row.accesses),
            percent(row.accesses, total.accesses),
            number(row.bytes),
            number(row.faults.unwrap_or(row.unverified)),
            number(row.exits.unwrap_or(0)),
        ]);
    }
    table.row([
        "all".to_string(),
        number(total.attempts),
        number(total.executions),
        number(total.accesses),
        percent(total.accesses, total.accesses),
        number(total.bytes),
        number(total.faults.unwrap_or(total.unverified)),
        number(total.exits),
    ]);
    table.render()
}

fn forms_undecided(snapshot: &Snapshot) -> String {
    let rows = &snapshot.forms_undecided;
    let has_faults = rows.iter().all(|row| row.faults.is_some());
    let last = if has_faults { ">faults" } else { ">unverified" };
    let mut table = TextTable::new(&["<form", ">attempts", ">executions", ">accesses", last]);
    for row in rows {
        table.row([
            row.form.name().to_string(),
            number(row.attempts),
            number(row.executions),
            number(row.accesses),
            number(row.faults.unwrap_or(row.unverified)),
        ]);
    }
    table.render()
}

fn hypercalls(snapshot: &Snapshot) -> String {
    let rows = &snapshot.hypercalls;
    let all = hypercalls_made(snapshot);
    let mut table =
        TextTable::new(&["<call", ">calls", ">%", ">bytes", ">declined", ">denied", ">errors"]);
    for row in rows {
        table.row([
            row.call.to_string(),
            number(row.count),
            percent(row.count, all),
            number(row.bytes),
            number(row.declined),
            number(row.denied),
            number(row.errors),
        ]);
    }
    let sum = |column: fn(&HypercallRow) -> u64| number(rows.iter().map(column).sum());
    table.row([
        "all".to_string(),
        number(all),
        percent(all, all),
        sum(|row| row.bytes),
        sum(|row| row.declined),
        sum(|row| row.denied),
        sum(|row| row.errors),
    ]);
    table.render()
}

fn hypercalls_made(tables: &Tables) -> u64 {
    tables.hypercalls.iter().map(|row| row.count).sum()
}

fn ports(snapshot: &Snapshot) -> String {
    let total: u64 = snapshot.ports.iter().map(PortRow::accesses).sum();
    let any = |column: fn(&PortRow) -> u64| snapshot.ports.iter().any(|row| column(row) > 0);
    let by_hypercall = if any(|row| row.hypercall) { ">by hypercall" } else { "" };
    let unverified = if any(|row| row.unverified) { ">unverified" } else { "" };
    let columns = ["<port", "<dir", ">size", ">accesses", ">%", by_hypercall, unverified, "<name"];
    let mut table = TextTable::new(&columns);
    for row in most(&snapshot.ports, PortRow::accesses) {
        table.row([
            row.port.to_string(),
            row.dir.to_string(),
            row.size.to_string(),
            number(row.accesses()),
            percent(row.accesses(), total),
            number(row.hypercall),
            number(row.unverified),
            row.name.as_deref().unwrap_or("-").to_string(),
        ]);
    }
    table.render()
}

/// The ports that no device serves, if their first accesses are known: a heading and a table.
fn first_unserved(snapshot: &Snapshot) -> Option<(String, String)> {
    let rows = snapshot.ports.iter().filter(|row| row.served == Some(false));
    let mut rows: Vec<(&FirstAccess, &PortRow)> =
        rows.filter_map(|row| Some((row.first.as_ref()?, row))).collect();
    if rows.is_empty() {
        return None;
    }
    rows.sort_by_key(|(first, _)| first.rank);
    let what = "ports that no device serves, in the order of their first access";
    let title = match rows.len() > BUSIEST {
        true => format!("The first {BUSIEST} of {} {what}", number(rows.len() as u64)),
        false => format!("All {what}"),
    };
    let columns = ["<port", "<dir", ">size", ">accesses", "<usual name", "<first by", "<symbol"];
    let mut table = TextTable::new(&columns);
    for (first, row) in rows.into_iter().take(BUSIEST) {
        table.row([
            row.port.to_string(),
            row.dir.to_string(),
            row.size.to_string(),
            number(row.accesses()),
            row.name.as_deref().unwrap_or("-").to_owned(),
            first.by().to_owned(),
            first.symbol.as_deref().unwrap_or("-").to_owned(),
        ]);
    }
    Some((title, table.render()))
}

/// The values at ports: a heading and a table.
fn values(snapshot: &Snapshot) -> (String, String) {
    let rows = timeline(&snapshot.values);
    let clock = match &snapshot.values_clock {
        Some(clock) => format!(", in the order in which they came; times by the {clock}'s clock"),
        None => String::new(),
    };
    let title = match rows.len() > BUSIEST {
        true => format!("The first {BUSIEST} of {} values{clock}", number(rows.len() as u64)),
        false => format!("All values{clock}"),
    };
    (title, crate::values::table(rows.into_iter().take(BUSIEST)))
}

/// A line that lists the used ports at which nothing is; empty if there are none.
fn unserved(snapshot: &Snapshot) -> String {
    let mut ports: Vec<_> =
        snapshot.ports.iter().filter(|row| row.served == Some(false)).map(|row| row.port).collect();
    ports.dedup();
    let shown: Vec<String> = ports.iter().take(BUSIEST).map(ToString::to_string).collect();
    let more = match ports.len().saturating_sub(BUSIEST) {
        0 => String::new(),
        more => format!(" and {} more", number(more as u64)),
    };
    match ports.is_empty() {
        true => String::new(),
        false => format!("  nothing is at {}{more}\n", shown.join(", ")),
    }
}

fn sites(snapshot: &Snapshot) -> String {
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

fn processes(snapshot: &Snapshot) -> String {
    let unverified = snapshot.processes.iter().any(|row| row.counts.unverified > 0);
    let accesses = |row: &ProcessRow| row.counts.accesses;
    let total: u64 = snapshot.processes.iter().map(accesses).sum();
    let mut table = TextTable::new(&[
        ">pid",
        "<name",
        ">executions",
        ">accesses",
        ">%",
        ">by the kernel",
        if unverified { ">unverified" } else { "" },
    ]);
    // What only user code did may all be unverified.
    for row in most(&snapshot.processes, |row| accesses(row).max(row.counts.unverified)) {
        table.row([
            row.pid.map_or("-".to_string(), |pid| pid.to_string()),
            row.name().to_string(),
            number(row.counts.executions),
            number(accesses(row)),
            percent(accesses(row), total),
            number(row.kernel_accesses),
            number(row.counts.unverified),
        ]);
    }
    table.render()
}

/// The most callers of a chain that the summary shows.
const CALLERS: usize = 6;

fn callers(snapshot: &Snapshot) -> String {
    let accesses = |row: &CallerRow| row.accesses;
    let total: u64 = snapshot.callers.iter().map(accesses).sum();
    let mut table = TextTable::new(&[">accesses", ">%", "<site, then its callers"]);
    for row in most(&snapshot.callers, accesses) {
        table.row([number(row.accesses), percent(row.accesses, total), chain(row)]);
    }
    table.render()
}

/// A chain as `site < caller < caller ...`, without the offsets of callers.
fn chain(row: &CallerRow) -> String {
    let mut names = vec![row.site().to_owned()];
    for frame in row.frames.iter().take(CALLERS) {
        let interrupted = if frame.interrupted { "interrupted " } else { "" };
        names.push(format!("{interrupted}{}", frame.function()));
    }
    match (row.frames.len().saturating_sub(CALLERS), row.end) {
        (0, ChainEnd::Unknown) => names.push("?".to_owned()),
        (0, ChainEnd::Dropped) => names.push("no room".to_owned()),
        (0, ChainEnd::User) => names.push("user mode".to_owned()),
        (0, ChainEnd::Bottom) => {}
        (0, ChainEnd::Depth) => names.push("...".to_owned()),
        (more, _) => names.push(format!("{more} more")),
    }
    names.join(" < ")
}

/// A line that says how many accesses have a chain that is not whole.
fn without_chain(snapshot: &Snapshot) -> Option<String> {
    let with = |end: ChainEnd| -> u64 {
        let rows = snapshot.callers.iter().filter(|row| row.end == end);
        rows.map(|row| row.accesses).sum()
    };
    let parts: Vec<String> = [
        (ChainEnd::Unknown, "a chain that ends as unknown (?)"),
        (ChainEnd::Dropped, "a chain for which there was no room"),
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
    const SHOWN: usize = 2;
    let rows = rows.map_or(&[][..], |rows| rows);
    let shown: Vec<String> = rows.iter().take(SHOWN).map(|row| row.port.to_string()).collect();
    match rows.len().saturating_sub(SHOWN) {
        0 if rows.is_empty() => "-".to_owned(),
        0 => shown.join(" "),
        more => format!("{} +{more}", shown.join(" ")),
    }
}

/// The heading of the column of instructions; empty if they are not counted.
fn instructions_column(snapshot: &Snapshot) -> &'static str {
    let Instructions { instructions, instructions_unverified } = snapshot.instructions;
    match (instructions, instructions_unverified) {
        (Some(_), _) => ">instructions",
        (None, Some(_)) => ">instructions begun",
        (None, None) => "",
    }
}

fn vcpus(snapshot: &Snapshot) -> String {
    let total: u64 = snapshot.vcpus.iter().map(|row| row.accesses).sum();
    let hypercalls = if snapshot.hypercalls.is_empty() { "" } else { ">hypercalls" };
    let instructions = instructions_column(snapshot);
    let columns = [">vCPU", ">executions", ">accesses", ">%", hypercalls, instructions];
    let mut table = TextTable::new(&columns);
    for row in &snapshot.vcpus {
        table.row([
            row.vcpu.to_string(),
            number(row.executions),
            number(row.accesses),
            percent(row.accesses, total),
            number(row.hypercalls),
            number(row.instructions.counted().unwrap_or(0)),
        ]);
    }
    table.render()
}

fn windows(snapshot: &Snapshot) -> String {
    let instructions = instructions_column(snapshot);
    let columns =
        ["<name", ">entries", "<open", ">executions", ">accesses", ">hypercalls", instructions];
    let mut table = TextTable::new(&columns);
    for row in &snapshot.windows {
        let total = total_of(row.form_counts());
        table.row([
            // The guest chose the name, which may hold escape sequences.
            row.name.escape_debug().to_string(),
            number(row.entries),
            if row.open { "yes" } else { "no" }.to_string(),
            number(total.executions),
            number(total.accesses),
            number(hypercalls_made(row)),
            number(row.instructions.counted().unwrap_or(0)),
        ]);
    }
    table.render()
}

fn busiest(what: &str, count: usize) -> String {
    match count > BUSIEST {
        true => format!("The {BUSIEST} busiest of {} {what}", number(count as u64)),
        false => format!("All {what}"),
    }
}

/// The rows with the most accesses, in descending order; equal rows keep their order.
fn most<T>(rows: &[T], accesses: impl Fn(&T) -> u64) -> impl Iterator<Item = &T> {
    let mut rows: Vec<&T> = rows.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(accesses(row)));
    rows.into_iter().take(BUSIEST)
}

#[cfg(test)]
mod tests;
