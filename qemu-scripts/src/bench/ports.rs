//! `out` and `in` on a latch of the plugin's and on QEMU's own.

use std::path::Path;

use anyhow::Result;

use super::Row;
use super::port_cost::{self, Timed};
use crate::measure::in_turn;
use crate::terminal::Progress;

/// The rows, `count` pairs of runs for those that take two.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let with_latch: &[&str] = &["device=latch@0x5000"];
    let progress = Progress::new();
    progress.set("ports: the plugin's latch and QEMU's");
    let own = port_cost::run(qemu, Some(with_latch))?;
    let uncounted = in_turn(
        count,
        [&mut || port_cost::run(qemu, Some(with_latch)), &mut || port_cost::run(qemu, None)],
        |pair| progress.set(&format!("ports, counted or not: pair {} of {count}", pair + 1)),
    )?;
    drop(progress);

    let two_runs = |what: Timed, over: Timed| -> Vec<(f64, f64)> {
        uncounted.iter().map(|[with, without]| (with.least(what), without.least(over))).collect()
    };
    use Timed::{InOther, InQemu, OutOther, OutQemu};
    let (qemus, plain) = ("QEMU's latch, counted too", "QEMU's latch without the plugin");
    let row = |what, over, pairs: &[(f64, f64)]| Row::of(what, over, "cycles", pairs);
    Ok(vec![
        row("out on the plugin's latch", qemus, &own.pairs(OutOther, OutQemu)),
        row("in on the plugin's latch", qemus, &own.pairs(InOther, InQemu)),
        row("out on the plugin's latch", plain, &two_runs(OutOther, OutQemu)).target(0.70),
        row("in on the plugin's latch", plain, &two_runs(InOther, InQemu)).target(0.70),
        row("out on QEMU's latch, counted", plain, &two_runs(OutQemu, OutQemu)),
        row("in on QEMU's latch, counted", plain, &two_runs(InQemu, InQemu)),
    ])
}
