//! Numbers for each operation by each way: instructions, and time.

use std::collections::BTreeMap;

use crate::stats::{Snapshot, WindowRow};
use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::guest::{Loop, Run, Size};
use super::{Cell, Mechanism};
use crate::measure::{Ratio, median};

/// The monitor's parts: sections of its ELF file (`link.ld`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// What gets into the monitor and out of it, and calls the others.
    Entry,
    /// The walk of the page tables.
    Walk,
    /// Where the instruction is.
    Fetch,
    /// What it says, and which segment it means.
    Decode,
    /// What is done to the guest's registers and memory.
    Emulate,
    /// The virtual device itself.
    Device,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 6] =
        [Part::Entry, Part::Walk, Part::Fetch, Part::Decode, Part::Emulate, Part::Device];

    /// Of the section.
    pub const fn name(self) -> &'static str {
        match self {
            Part::Entry => "entry",
            Part::Walk => "walk",
            Part::Fetch => "fetch",
            Part::Decode => "decode",
            Part::Emulate => "emulate",
            Part::Device => "device",
        }
    }
}

/// What one operation takes by one way.
#[derive(Clone, Debug, Serialize)]
pub struct Metrics {
    /// Which way.
    pub mechanism: Mechanism,
    /// Which operation.
    #[serde(flatten)]
    pub cell: Cell,
    /// Instructions that the monitor executes for it.
    pub monitor: u64,
    /// The same by part.
    pub parts: BTreeMap<Part, u64>,
    /// Instructions of all, the guest's own included.
    pub total: u64,
    /// How long it takes, by what `native` takes.
    pub time: Option<Ratio>,
    /// How many cycles of the time-stamp counter, in the middle.
    pub cycles: Option<f64>,
}

impl Metrics {
    /// What a part takes.
    pub fn part(&self, part: Part) -> u64 {
        self.parts.get(&part).copied().unwrap_or(0)
    }
}

/// Of all operations by all ways.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct AllMetrics(pub Vec<Metrics>);

impl AllMetrics {
    /// Those of one.
    pub fn get(&self, mechanism: Mechanism, cell: Cell) -> Option<&Metrics> {
        self.0.iter().find(|metrics| metrics.mechanism == mechanism && metrics.cell == cell)
    }
}

/// Counts of instructions, from a run that counted: each exact, or an error.
pub fn instructions(run: &Run, size: Size) -> Result<AllMetrics> {
    let windows = Windows(&run.stats);
    let mut all = Vec::new();
    for cell in Cell::all() {
        for mechanism in Mechanism::ALL.into_iter().filter(|way| way.has(cell)) {
            if !run.rounds.iter().flatten().any(|done| done.mechanism == mechanism) {
                continue;
            }
            let full = windows.of(&format!("{mechanism} {:02}", cell.number()))?;
            let kind = if cell.elements == 1 { "scalars" } else { "strings" };
            let empty = windows.of(&format!("{mechanism} {kind}"))?;
            let repeats = u64::from(size.repeats(cell));
            let per_operation = |count: fn(&WindowRow, &str) -> Result<u64>, what: &str| {
                let (full, empty) = (count(full, what)?, count(empty, what)?);
                let more =
                    full.checked_sub(empty).context("a loop takes more than one of nothing")?;
                let all = repeats * u64::from(size.rounds);
                ensure!(
                    more % all == 0,
                    "{cell} by {mechanism}: {more} instructions are not the same for each of {all}"
                );
                Ok(more / all)
            };
            let mut parts = BTreeMap::new();
            for part in Part::ALL {
                parts.insert(part, per_operation(in_section, part.name())?);
            }
            all.push(Metrics {
                mechanism,
                cell,
                monitor: parts.values().sum(),
                parts,
                total: per_operation(in_all, "")?,
                time: None,
                cycles: None,
            });
        }
    }
    Ok(AllMetrics(all))
}

/// What a QEMU is told that is too old.
pub const NOT_REPORTED: &str =
    "this QEMU does not report which instructions retire: use QEMU 11.0 or newer";

struct Windows<'a>(&'a Snapshot);

impl Windows<'_> {
    fn of(&self, name: &str) -> Result<&WindowRow> {
        let window = self.0.windows.iter().find(|window| window.name == name);
        let window = window.with_context(|| format!("the guest has begun no window {name:?}"))?;
        ensure!(!window.open, "the guest has not ended the window {name:?}");
        Ok(window)
    }
}

fn in_all(window: &WindowRow, _what: &str) -> Result<u64> {
    window.instructions.instructions.context(NOT_REPORTED)
}

fn in_section(window: &WindowRow, name: &str) -> Result<u64> {
    let section = window.sections.iter().find(|section| section.name == name);
    let section = section.with_context(|| format!("the guest has no section {name:?}"))?;
    section.instructions.instructions.context(NOT_REPORTED)
}

/// Adds times, from a run that was as fast as it goes.
pub fn add_times(all: &mut AllMetrics, run: &Run) -> Result<()> {
    for metrics in &mut all.0 {
        let mut pairs = Vec::new();
        // In the first round QEMU translates what it runs.
        for round in run.rounds.iter().skip(1) {
            let own = cycles(round, metrics.mechanism, metrics.cell);
            let native = cycles(round, Mechanism::Native, metrics.cell);
            pairs.extend(own.zip(native));
        }
        ensure!(!pairs.is_empty(), "{} by {} was not timed", metrics.cell, metrics.mechanism);
        metrics.time = Some(Ratio::of(&pairs));
        metrics.cycles = Some(median(pairs.iter().map(|&(own, _)| own)));
    }
    Ok(())
}

/// Cycles for one operation: what the loop took beyond one of nothing. At least one, whatever a busy host
/// makes of it.
fn cycles(round: &[Loop], mechanism: Mechanism, cell: Cell) -> Option<f64> {
    let find = |cell: Option<Cell>, repeats: Option<u32>| {
        round.iter().find(|done| {
            done.mechanism == mechanism
                && done.cell == cell
                && repeats.is_none_or(|repeats| done.repeats == repeats)
        })
    };
    let full = find(Some(cell), None)?;
    let empty = find(None, Some(full.repeats))?;
    let more = full.cycles.saturating_sub(empty.cycles) as f64 / f64::from(full.repeats);
    Some(more.max(1.0))
}
