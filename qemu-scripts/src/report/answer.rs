//! The answer that the page opens with.

use std::collections::HashMap;
use std::fmt;

use crate::diff::Total;
use crate::stats::text_table::{number, percent, printable};
use crate::stats::{PortRow, SiteRow, Snapshot};

/// All accesses of a dump, by instruction and by hypercall.
pub fn accesses(dump: &Snapshot) -> u64 {
    total(dump, "accesses")
}

fn total(dump: &Snapshot, name: &str) -> u64 {
    Total::named(name).and_then(|total| total.count(dump)).unwrap_or(0)
}

/// How many accesses there were, where most went and where most came from, in one sentence.
pub fn sentence(dump: &Snapshot) -> String {
    let all = accesses(dump);
    let mut sentence = match all {
        0 => return "The guest made no port access.".to_owned(),
        1 => "1 port access".to_owned(),
        _ => format!("{} port accesses", number(all)),
    };
    let mut shares = Vec::new();
    if let Some((port, count)) = busiest_port(dump) {
        shares.push(format!("{} % went to {port}", percent(count, all)));
    }
    if let Some((function, count)) = functions(dump).into_iter().next().filter(|row| row.1 > 0) {
        shares.push(format!("{} % came from {function}", percent(count, all)));
    }
    if !shares.is_empty() {
        sentence += ": ";
        sentence += &shares.join(" and ");
    }
    sentence + "."
}

/// The name and number of the port with the most accesses in both directions, and these.
fn busiest_port(dump: &Snapshot) -> Option<(String, u64)> {
    let mut sums: Vec<(&PortRow, u64)> = Vec::new();
    for row in &dump.ports {
        match sums.last_mut().filter(|(last, _)| last.port == row.port) {
            Some((_, sum)) => *sum += row.accesses(),
            None => sums.push((row, row.accesses())),
        }
    }
    let (row, count) = sums.into_iter().rev().max_by_key(|(_, count)| *count)?;
    let name = match &row.name {
        Some(name) => printable(&format!("{name}, port {}", row.port)),
        None => format!("port {}", row.port),
    };
    (count > 0).then_some((name, count))
}

/// Accesses by function, in descending order. A site without a symbol stands for itself.
pub fn functions(dump: &Snapshot) -> Vec<(Function<'_>, u64)> {
    let mut sums: HashMap<Function<'_>, u64> = HashMap::new();
    for row in &dump.sites {
        *sums.entry(Function::of(row)).or_default() += row.counts.accesses;
    }
    let mut sums: Vec<(Function<'_>, u64)> = sums.into_iter().collect();
    sums.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    sums
}

/// A function of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function<'a> {
    /// A function with this name.
    Named(&'a str),
    /// An instruction that no symbol names, and its address.
    Unnamed(&'a str, &'a str),
}

impl Function<'_> {
    fn of(row: &SiteRow) -> Function<'_> {
        match &row.symbol {
            Some(symbol) => {
                Function::Named(symbol.rsplit_once("+0x").map_or(symbol.as_str(), |(name, _)| name))
            }
            None => Function::Unnamed(&row.insn, &row.pc),
        }
    }
}

impl fmt::Display for Function<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Function::Named(name) => f.write_str(&printable(name)),
            Function::Unnamed(insn, pc) => f.write_str(&printable(&format!("{insn} at {pc}"))),
        }
    }
}

/// Further sentences: executions, sites, faults, hypercalls, instructions.
pub fn details(dump: &Snapshot) -> Vec<String> {
    let sites = dump.sites.len() as u64 + dump.sites_dropped;
    let mut lines = vec![format!(
        "{} moved {} at {}.",
        counted(
            total(dump, "executions"),
            "executed port instruction",
            "executed port instructions"
        ),
        counted(total(dump, "bytes"), "byte", "bytes"),
        counted(sites, "place in the code", "places in the code"),
    )];
    let calls = total(dump, "hypercalls");
    if calls > 0 {
        lines.push(format!(
            "{} made {}, which are {} % of all.",
            counted(calls, "hypercall", "hypercalls"),
            counted(total(dump, "hypercall-accesses"), "access", "accesses"),
            percent(total(dump, "hypercall-accesses"), accesses(dump)),
        ));
    }
    let faults = total(dump, "faults");
    if faults > 0 {
        lines.push(format!("{} faulted.", counted(faults, "attempt", "attempts")));
    }
    let unverified = total(dump, "unverified");
    if unverified > 0 {
        lines.push(format!(
            "{} more were made or faulted, which this QEMU does not report.",
            number(unverified)
        ));
    }
    let instructions = total(dump, "instructions");
    if instructions > 0 {
        lines.push(format!(
            "The guest executed {} of every kind.",
            counted(instructions, "instruction", "instructions")
        ));
    }
    lines
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}
