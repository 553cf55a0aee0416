//! Instructions and time of each operation by each mechanism.

use std::collections::BTreeMap;

use crate::stats::{Snapshot, WindowRow};
use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::guest::{Loop, Run, Size};
use super::part::Part;
use super::{Cell, Mechanism};
use crate::measure::{Ratio, median};

/// Cost of an operation by one mechanism.
///
/// Instructions are those of `operations` operations, so that they are whole numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Metrics {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// The operation.
    #[serde(flatten)]
    pub cell: Cell,
    /// The operations that were counted: [`Mechanism::period`].
    pub operations: u32,
    /// Instructions of the monitor, and of user space.
    pub monitor: u64,
    /// Instructions of all parts.
    pub parts: BTreeMap<Part, u64>,
    /// Instructions of guest, monitor and user space, without the processor's part.
    pub total: u64,
    /// Time of one operation over that of [`Mechanism::Native`]; `None` if it was not measured.
    pub time: Option<Ratio>,
    /// Median of the cycles of one operation, by RDTSC; `None` if it was not measured.
    pub cycles: Option<f64>,
}

impl Metrics {
    /// Returns the instructions of a part.
    pub fn part(&self, part: Part) -> u64 {
        self.parts.get(&part).copied().unwrap_or(0)
    }

    /// Returns the mean of a count over the operations.
    pub fn each(&self, count: u64) -> f64 {
        count as f64 / f64::from(self.operations)
    }

    /// Returns the share of decode in all instructions, wherever the decoder runs.
    pub fn decode_share(&self) -> f64 {
        (self.part(Part::Decode) + self.part(Part::GuestDecode)) as f64 / self.total.max(1) as f64
    }
}

/// Costs of all operations by all mechanisms.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct AllMetrics(pub Vec<Metrics>);

impl AllMetrics {
    /// Finds the cost of one operation by one mechanism.
    pub fn get(&self, mechanism: Mechanism, cell: Cell) -> Option<&Metrics> {
        self.0.iter().find(|metrics| metrics.mechanism == mechanism && metrics.cell == cell)
    }
}

/// Computes instructions from a run that counted them.
///
/// # Errors
///
/// Fails unless every repetition of an operation took the same number of instructions.
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
            let operations = mechanism.period(cell);
            let per_operation = |count: fn(&WindowRow, &str) -> Result<u64>, what: &str| {
                let (full, empty) = (count(full, what)?, count(empty, what)?);
                let more = full
                    .checked_sub(empty)
                    .context("an empty loop took more instructions than a full one")?;
                let all = repeats * u64::from(size.rounds) / u64::from(operations);
                ensure!(
                    more % all == 0,
                    "{cell} by {mechanism}: {more} instructions cannot be equal for each of {all} repetitions"
                );
                Ok(more / all)
            };
            let mut parts = BTreeMap::new();
            for part in Part::ALL {
                parts.insert(part, per_operation(in_section, part.section())?);
            }
            let everything = per_operation(in_all, "")?;
            let of_software = everything.checked_sub(parts[&Part::Processor]);
            let monitor = Part::ALL.into_iter().filter(|part| part.is_monitors());
            all.push(Metrics {
                mechanism,
                cell,
                operations,
                monitor: monitor.map(|part| parts[&part]).sum(),
                parts,
                total: of_software.context("a part has more instructions than the whole")?,
                time: None,
                cycles: None,
            });
        }
    }
    Ok(AllMetrics(all))
}

/// Error for a QEMU that is too old.
pub const NOT_REPORTED: &str =
    "this QEMU does not report which instructions retire: use QEMU 11.0 or newer";

struct Windows<'a>(&'a Snapshot);

impl Windows<'_> {
    fn of(&self, name: &str) -> Result<&WindowRow> {
        let window = self.0.windows.iter().find(|window| window.name == name);
        let window = window.with_context(|| format!("the guest began no window {name:?}"))?;
        ensure!(!window.open, "the guest did not end the window {name:?}");
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

/// Adds times from a run without counting.
///
/// # Errors
///
/// Fails if an operation was not timed.
pub fn add_times(all: &mut AllMetrics, run: &Run) -> Result<()> {
    for metrics in &mut all.0 {
        let mut pairs = Vec::new();
        // The first round includes QEMU's translation.
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

/// Computes cycles of one operation: its loop's minus those of an empty loop.
///
/// At least 1, because on a busy host the difference may be negative.
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
