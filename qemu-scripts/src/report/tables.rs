//! The page's tables: the dump's rows, with the summary's columns and more.

mod accesses;
mod calls;
mod linked;

use maud::{Markup, html};

use self::accesses::{callers, first_unserved, processes, values};
use self::calls::{call_callers, call_sites_dropped};
use self::linked::linked;
use crate::report::table::HtmlTable;
use crate::stats::text_table::{number, percent, printable};
use crate::stats::{SectionRow, Snapshot, Tables};

/// Renders the tables. Those without rows are left out.
pub fn all(dump: &Snapshot) -> Markup {
    let tables = linked(dump);
    html! {
        (tables.ports)
        (tables.sites)
        @if let Some(sources) = dump.name_sources() {
            p { "Names of sites: " (printable(&sources)) "." }
        }
        (first_unserved(dump))
        (values(dump))
        @if dump.sites_dropped > 0 {
            p {
                "The table of sites was full for " (number(dump.sites_dropped)) " translated instructions. They made "
                (number(dump.sites_dropped_counts.accesses)) " accesses."
            }
        }
        (callers(dump))
        (processes(dump))
        @if dump.processes_dropped_counts.accesses > 0 {
            p {
                "Processes that did not fit into the table made "
                (number(dump.processes_dropped_counts.accesses)) " accesses."
            }
        }
        (forms(dump))
        @if !dump.forms_undecided.is_empty() {
            (forms_undecided(dump))
        }
        (hypercalls(dump))
        (tables.call_sites)
        (call_sites_dropped(dump))
        (call_callers(dump))
        (windows(dump))
        (vcpus(dump))
        @if let Some(reason) = &dump.vcpus_omitted {
            p { "Counts by vCPU are missing: " (printable(reason)) "." }
        }
        (sections(dump))
    }
}

fn yes_or_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

fn if_any(any: bool, heading: &'static str) -> &'static str {
    if any { heading } else { "" }
}

fn forms(dump: &Snapshot) -> Markup {
    let rows = &dump.forms;
    let total = dump.accesses();
    let has_faults = rows.iter().any(|row| row.faults.is_some());
    let columns = [
        "<Form",
        ">Attempts",
        ">Executions",
        ">Accesses",
        ">% of all",
        ">Bytes",
        if_any(has_faults, ">Faults"),
        if_any(rows.iter().any(|row| row.exits > Some(0)), ">Exits"),
        if_any(rows.iter().any(|row| row.unverified > 0), ">Unverified"),
    ];
    let unknown = || "-".to_owned();
    HtmlTable::new(
        "The 24 forms",
        columns,
        rows,
        |row| row.accesses,
        |row| {
            [
                row.form.to_string(),
                number(row.attempts),
                number(row.executions),
                number(row.accesses),
                percent(row.accesses, total),
                number(row.bytes),
                row.faults.map_or_else(unknown, number),
                row.exits.map_or_else(unknown, number),
                number(row.unverified),
            ]
        },
    )
    .render()
}

fn forms_undecided(dump: &Snapshot) -> Markup {
    let columns =
        ["<Form", ">Attempts", ">Executions", ">Accesses", ">Faults", ">Exits", ">Unverified"];
    let unknown = || "-".to_owned();
    HtmlTable::new(
        "Undecided forms, of code of unknown mode",
        columns,
        &dump.forms_undecided,
        |row| row.accesses,
        |row| {
            [
                row.form.to_string(),
                number(row.attempts),
                number(row.executions),
                number(row.accesses),
                row.faults.map_or_else(unknown, number),
                row.exits.map_or_else(unknown, number),
                number(row.unverified),
            ]
        },
    )
    .render()
}

fn hypercalls(dump: &Snapshot) -> Markup {
    let columns = ["<Call", ">Calls", ">Bytes", ">Declined", ">Denied", ">Errors"];
    HtmlTable::new(
        "Hypercalls",
        columns,
        &dump.hypercalls,
        |row| row.count,
        |row| {
            let counts = [row.count, row.bytes, row.declined, row.denied, row.errors].map(number);
            let [count, bytes, declined, denied, errors] = counts;
            [row.call.to_string(), count, bytes, declined, denied, errors]
        },
    )
    .render()
}

/// Returns the heading of the column of instructions; empty if they are not counted.
fn instructions(tables: &Tables) -> &'static str {
    let counts = tables.instructions;
    match (counts.instructions, counts.instructions_unverified) {
        (Some(_), _) => ">Instructions",
        (None, Some(_)) => ">Instructions begun",
        (None, None) => "",
    }
}

fn windows(dump: &Snapshot) -> Markup {
    let columns = [
        "<Window",
        ">Entries",
        "<Open",
        ">Executions",
        ">Accesses",
        ">Faults",
        ">Hypercalls",
        instructions(dump),
    ];
    HtmlTable::new(
        "Windows",
        columns,
        &dump.windows,
        |row| row.instruction_accesses(),
        |row| {
            let faults: Option<u64> = row.form_counts().map(|row| row.faults).sum();
            [
                row.name.clone(),
                number(row.entries),
                yes_or_no(row.open),
                number(row.form_counts().map(|row| row.executions).sum()),
                number(row.instruction_accesses()),
                faults.map_or("-".to_owned(), number),
                number(row.hypercalls.iter().map(|row| row.count).sum()),
                row.instructions.counted().map_or("-".to_owned(), number),
            ]
        },
    )
    .render()
}

fn vcpus(dump: &Snapshot) -> Markup {
    let columns = [">vCPU", ">Executions", ">Accesses", ">Hypercalls", instructions(dump)];
    HtmlTable::new(
        "vCPUs",
        columns,
        &dump.vcpus,
        |row| row.accesses,
        |row| {
            [
                row.vcpu.to_string(),
                number(row.executions),
                number(row.accesses),
                number(row.hypercalls),
                row.instructions.counted().map_or("-".to_owned(), number),
            ]
        },
    )
    .render()
}

fn sections(dump: &Snapshot) -> Markup {
    let columns = ["<Section", "<From", "<To", instructions(dump)];
    let count = |row: &SectionRow| row.instructions.counted();
    HtmlTable::new(
        "Instructions by section",
        columns,
        &dump.sections,
        |row| count(row).unwrap_or(0),
        |row| {
            let count = count(row).map_or("-".to_owned(), number);
            [row.name.clone(), row.start.clone(), row.end.clone(), count]
        },
    )
    .render()
}
