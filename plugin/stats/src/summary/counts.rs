//! Tables of counts by form, call, section, vCPU and window.

use crate::schema::{FormRow, HypercallRow, Instructions, Snapshot, Tables};
use crate::text_table::{TextTable, number, percent};

pub(super) fn sections(snapshot: &Snapshot) -> String {
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
pub(super) struct Total {
    pub attempts: u64,
    pub executions: u64,
    pub accesses: u64,
    pub bytes: u64,
    pub faults: Option<u64>,
    pub exits: u64,
    pub unverified: u64,
}

pub(super) fn total_of(rows: &[FormRow]) -> Total {
    let sum = |column: fn(&FormRow) -> u64| rows.iter().map(column).sum();
    Total {
        attempts: sum(|row| row.attempts),
        executions: sum(|row| row.executions),
        accesses: sum(|row| row.accesses),
        bytes: sum(|row| row.bytes),
        faults: rows.iter().map(|row| row.faults).sum(),
        exits: sum(|row| row.exits.unwrap_or(0)),
        unverified: sum(|row| row.unverified),
    }
}

pub(super) fn forms(snapshot: &Snapshot) -> String {
    let total = total_of(&snapshot.forms);
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

pub(super) fn hypercalls(snapshot: &Snapshot) -> String {
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

pub(super) fn hypercalls_made(tables: &Tables) -> u64 {
    tables.hypercalls.iter().map(|row| row.count).sum()
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

pub(super) fn vcpus(snapshot: &Snapshot) -> String {
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

pub(super) fn windows(snapshot: &Snapshot) -> String {
    let instructions = instructions_column(snapshot);
    let columns =
        ["<name", ">entries", "<open", ">executions", ">accesses", ">hypercalls", instructions];
    let mut table = TextTable::new(&columns);
    for row in &snapshot.windows {
        let total = total_of(&row.forms);
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
