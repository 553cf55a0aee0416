//! The summary: a snapshot as text tables.

mod counts;
mod ports;
mod sites;

use std::fmt::Write;

use self::counts::{
    forms, forms_undecided, hypercalls, hypercalls_made, sections, total_of, vcpus, windows,
};
use self::ports::{first_unserved, ports, unserved, values};
use self::sites::{call_callers, call_sites, callers, processes, sites, without_chain};
use crate::post;
use crate::schema::{AccessCounts, CallCounts, Counts, Snapshot};
use crate::text_table::{number, printable};

/// Maximum number of ports and sites that the summary shows, the busiest first. The dump has all.
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
    if !snapshot.call_sites.is_empty() {
        let title = busiest("call sites, by call", snapshot.call_sites.len());
        section(&mut text, &title, call_sites(snapshot));
    }
    let dropped = snapshot.call_sites_dropped_counts;
    if dropped != CallCounts::default() {
        let _ = writeln!(
            text,
            "  {} more came from call sites that did not fit into the table",
            counted_as(dropped.calls, "hypercall", "hypercalls"),
        );
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
        let _ = writeln!(text, "  {dropped} had values that did not fit into the table");
    }
    if !snapshot.post.is_empty() {
        let (title, table) = post::codes(snapshot);
        section(&mut text, &title, table);
    }
    if snapshot.post_dropped > 0 {
        let dropped = counted_as(snapshot.post_dropped, "code", "codes");
        let _ = writeln!(text, "  {dropped} before the last did not fit into the table");
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
            "{} did not fit into the table of sites, and made {}",
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
    if !snapshot.call_callers.is_empty() {
        let title = busiest("call chains of hypercalls", snapshot.call_callers.len());
        section(&mut text, &title, call_callers(snapshot));
    }
    if !snapshot.processes.is_empty() {
        section(&mut text, &busiest("processes", snapshot.processes.len()), processes(snapshot));
    }
    let dropped = snapshot.processes_dropped_counts;
    if dropped != Counts::default() {
        let accesses = counted_as(dropped.accesses, "access", "accesses");
        let _ = writeln!(text, "processes that did not fit into the table made {accesses}");
    }
    if !snapshot.sections.is_empty() {
        section(&mut text, "Instructions by section", sections(snapshot));
    }
    if snapshot.vcpus.len() > 1 {
        section(&mut text, "vCPUs", vcpus(snapshot));
    }
    if let Some(why) = &snapshot.vcpus_omitted {
        let _ = writeln!(text, "\nCounts by vCPU are missing: {}", printable(why));
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
                "; {} more {} made or faulted, but QEMU before 11.0 does not report which",
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
        let _ = write!(line, "; {count} began, some of which may have faulted");
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
