//! `out` and `in` on a latch of the plugin's and on QEMU's own, by a guest that times them in turn
//! (`tests/guests/port-cost.S`).

use std::path::Path;

use anyhow::Result;

use super::Row;
use super::timed_guest::{self, Run};
use crate::measure::{median, pairs};
use crate::terminal::Progress;

/// What the guest times, in its order.
#[derive(Clone, Copy)]
enum Timed {
    OutQemu,
    OutOther,
    InQemu,
    InOther,
}

/// How many accesses it times at once.
const COUNTS: [f64; 4] = [20_000.0; 4];

/// The rows, `count` pairs of runs for those that take two.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let run = |options: Option<&[&str]>| timed_guest::run(qemu, "port-cost.bin", options, COUNTS);
    let with_latch: &[&str] = &["device=latch@0x5000"];
    let progress = Progress::new();
    progress.set("ports: the plugin's latch and QEMU's");
    let own = run(Some(with_latch))?;
    let uncounted = pairs(
        count,
        || run(Some(with_latch)),
        || run(None),
        |pair| progress.set(&format!("ports, counted or not: pair {} of {count}", pair + 1)),
    )?;
    drop(progress);

    let same_run = |what: Timed, over: Timed| -> Vec<(f64, f64)> {
        own.rounds.iter().map(|round| (round[what as usize], round[over as usize])).collect()
    };
    // One run's middle is one half of a pair: the other half is a run without the plugin.
    let middle =
        |run: &Run<4>, timed: Timed| median(run.rounds.iter().map(|round| round[timed as usize]));
    let two_runs = |what: Timed, over: Timed| -> Vec<(f64, f64)> {
        uncounted
            .iter()
            .map(|(with, without)| (middle(with, what), middle(without, over)))
            .collect()
    };
    use Timed::{InOther, InQemu, OutOther, OutQemu};
    let (qemus, plain) = ("QEMU's latch, counted too", "QEMU's latch without the plugin");
    let row = |what, over, pairs: &[(f64, f64)]| Row::of(what, over, "cycles", pairs);
    Ok(vec![
        row("out on the plugin's latch", qemus, &same_run(OutOther, OutQemu)),
        row("in on the plugin's latch", qemus, &same_run(InOther, InQemu)),
        row("out on the plugin's latch", plain, &two_runs(OutOther, OutQemu)),
        row("in on the plugin's latch", plain, &two_runs(InOther, InQemu)),
        row("out on QEMU's latch, counted", plain, &two_runs(OutQemu, OutQemu)),
        row("in on QEMU's latch, counted", plain, &two_runs(InQemu, InQemu)),
    ])
}
