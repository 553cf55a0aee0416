//! The sentences at the top of the page.

use std::collections::HashMap;
use std::fmt;

use crate::diff::Total;
use crate::report::avoidable::Avoidable;
use crate::stats::text_table::{number, percent, printable};
use crate::stats::{CallSiteRow, PortRow, SiteRow, Snapshot};

fn total(dump: &Snapshot, name: &str) -> u64 {
    Total::named(name).and_then(|total| total.count(dump)).unwrap_or(0)
}

/// States the number of accesses, the busiest port, the busiest function, and what could be avoided.
pub fn sentence(dump: &Snapshot, avoidable: Avoidable) -> String {
    let all = dump.accesses();
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
    sentence += ".";
    if avoidable.total() > 0 {
        sentence += &format!(" At least {} % could be avoided.", percent(avoidable.total(), all));
    }
    sentence
}

/// Returns the port with the most accesses in both directions, and their number.
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

/// Adds up accesses by function, in descending order: by instruction and by hypercall.
///
/// A site or call site without a symbol has an entry of its own.
pub fn functions(dump: &Snapshot) -> Vec<(Function<'_>, u64)> {
    let mut sums: HashMap<Function<'_>, u64> = HashMap::new();
    let by_insn = dump.sites.iter().map(|row| (Function::of(row), row.counts.accesses));
    let calls = dump.call_sites.iter().filter(|row| row.counts.accesses > 0);
    let by_call = calls.map(|row| (Function::of_call(row), row.counts.accesses));
    for (function, accesses) in by_insn.chain(by_call) {
        let sum = sums.entry(function).or_default();
        *sum = sum.saturating_add(accesses);
    }
    let mut sums: Vec<(Function<'_>, u64)> = sums.into_iter().collect();
    sums.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    sums
}

/// A function of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function<'a> {
    /// A function by its name.
    Named(&'a str),
    /// An instruction or a call without a symbol, and its address.
    Unnamed(&'a str, &'a str),
}

impl Function<'_> {
    fn of(row: &SiteRow) -> Function<'_> {
        Function::new(row.symbol.as_deref(), &row.insn, &row.pc)
    }

    fn of_call(row: &CallSiteRow) -> Function<'_> {
        Function::new(row.symbol.as_deref(), row.call.name(), &row.pc)
    }

    fn new<'a>(symbol: Option<&'a str>, code: &'a str, pc: &'a str) -> Function<'a> {
        match symbol {
            Some(symbol) => {
                Function::Named(symbol.rsplit_once("+0x").map_or(symbol, |(name, _)| name))
            }
            None => Function::Unnamed(code, pc),
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

/// States executions, sites, avoidable accesses, faults, hypercalls and instructions, one sentence each.
pub fn details(dump: &Snapshot, avoidable: Avoidable) -> Vec<String> {
    let sites = dump.sites.len() as u64 + dump.sites_dropped;
    let mut lines = vec![format!(
        "{} at {} moved {}.",
        counted(
            total(dump, "executions"),
            "executed port instruction",
            "executed port instructions"
        ),
        counted(sites, "site", "sites"),
        counted(total(dump, "bytes"), "byte", "bytes"),
    )];
    if avoidable.polls > 0 {
        lines.push(format!(
            "{} the one before, by the same instruction (polling).",
            counted(avoidable.polls, "read repeated", "reads repeated")
        ));
    }
    if avoidable.unserved > 0 {
        lines.push(format!(
            "{} to ports that no device serves.",
            counted(avoidable.unserved, "access went", "accesses went")
        ));
    }
    let calls = total(dump, "hypercalls");
    if calls > 0 {
        lines.push(format!(
            "{} made {}, {} % of the total.",
            counted(calls, "hypercall", "hypercalls"),
            counted(dump.hypercall_accesses(), "access", "accesses"),
            percent(dump.hypercall_accesses(), dump.accesses()),
        ));
    }
    let faults = total(dump, "faults");
    if faults > 0 {
        lines.push(format!("{} faulted.", counted(faults, "attempt", "attempts")));
    }
    let unverified = total(dump, "unverified");
    if unverified > 0 {
        lines.push(format!(
            "{} completed or faulted; this QEMU does not report which.",
            counted(unverified, "more attempt", "more attempts")
        ));
    }
    let instructions = total(dump, "instructions");
    if instructions > 0 {
        lines.push(format!(
            "The guest executed {} in all.",
            counted(instructions, "instruction", "instructions")
        ));
    }
    lines
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}
