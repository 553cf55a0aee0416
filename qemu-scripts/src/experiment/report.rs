//! Runs the experiment.

use std::path::Path;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::Mechanism;
use super::conclusions::Conclusions;
use super::equivalence::{check_digests, check_logs};
use super::guest::{Size, run};
use super::metrics::{AllMetrics, add_times, instructions};
use super::workload::Workload;
use crate::stats::Snapshot;

/// Sizes of the experiment's runs.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Size of the runs that count. Counts are exact, so few repetitions suffice.
    pub counted: Size,
    /// Size of the timed run; `None` skips it.
    pub timed: Option<Size>,
}

impl Plan {
    const COUNTED: Size = Size { scalars: 16, strings: 2, rounds: 1 };

    /// Sizes for results to quote.
    pub const FULL: Plan = Plan {
        counted: Plan::COUNTED,
        timed: Some(Size { scalars: 1024, strings: 16, rounds: 10 }),
    };
    /// Sizes for a quick run.
    pub const QUICK: Plan =
        Plan { counted: Plan::COUNTED, timed: Some(Size { scalars: 256, strings: 4, rounds: 4 }) };
    /// Counts without times.
    pub const COUNTS: Plan = Plan { counted: Plan::COUNTED, timed: None };
}

/// Results of the experiment.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of pvio.
    pub pvio: &'static str,
    /// The version of QEMU; `None` if QEMU does not report it.
    pub qemu: Option<String>,
    /// Number of compared accesses of each mechanism that supports all forms.
    pub accesses_compared: usize,
    /// Number of timed rounds; 0 if nothing was timed.
    pub rounds: u32,
    /// Costs of all operations by all mechanisms.
    pub metrics: AllMetrics,
    /// A real guest's port I/O by each mechanism.
    pub workload: Option<Workload>,
    /// The conclusions.
    pub conclusions: Conclusions,
}

/// Runs the experiment on a QEMU.
///
/// `workload` is a dump of a guest's port I/O with a description of its origin. `progress` is called with a
/// description of each step.
///
/// # Errors
///
/// Fails if QEMU or the guest fails, if two mechanisms had different effects, or if two runs count differently.
pub fn measure(
    qemu: &Path,
    plan: Plan,
    workload: Option<(String, &Snapshot)>,
    progress: impl Fn(&str),
) -> Result<Report> {
    progress("counting instructions and comparing accesses");
    let first = count(qemu, plan.counted)?;
    let mut metrics = first.metrics;
    progress("counting instructions again");
    same_counts(&metrics, &count(qemu, plan.counted)?.metrics)?;
    let mut rounds = 0;
    if let Some(size) = plan.timed {
        progress("timing every operation");
        let timed = run(qemu, size, &Mechanism::ALL, false)?;
        check_digests(&timed)?;
        add_times(&mut metrics, &timed)?;
        rounds = size.rounds - 1;
    }
    let workload = workload.map(|(source, dump)| Workload::of(source, dump, &metrics));
    let conclusions = Conclusions::of(&metrics, workload.as_ref());
    Ok(Report {
        pvio: env!("CARGO_PKG_VERSION"),
        qemu: first.qemu,
        accesses_compared: first.accesses,
        rounds,
        metrics,
        workload,
        conclusions,
    })
}

/// Results of the runs that count.
struct Counted {
    metrics: AllMetrics,
    accesses: usize,
    qemu: Option<String>,
}

/// Counts all mechanisms, in two runs. Both have [`Mechanism::Native`], with which all others are compared.
fn count(qemu: &Path, size: Size) -> Result<Counted> {
    let mut counted = Counted { metrics: AllMetrics::default(), accesses: 0, qemu: None };
    for ways in [Mechanism::OF_2007, &Mechanism::NEW] {
        let run = run(qemu, size, ways, true)?;
        counted.accesses = check_logs(&run)?;
        let metrics = instructions(&run, size)?.0.into_iter();
        let is_first = counted.metrics.0.is_empty();
        counted
            .metrics
            .0
            .extend(metrics.filter(|row| is_first || row.mechanism != Mechanism::Native));
        counted.qemu = run.stats.qemu.version;
    }
    Ok(counted)
}

fn same_counts(one: &AllMetrics, other: &AllMetrics) -> Result<()> {
    for (one, other) in one.0.iter().zip(&other.0) {
        ensure!(
            (one.total, &one.parts) == (other.total, &other.parts),
            "{} by {}: {} instructions in one run, {} in another",
            one.cell,
            one.mechanism,
            one.total,
            other.total
        );
    }
    Ok(())
}
