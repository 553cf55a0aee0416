//! `out` and `in` on the plugin's latch and on QEMU's.

use std::path::Path;

use anyhow::Result;

use super::Row;
use super::port_cost::{self, Timed};
use crate::measure::in_turn;
use crate::progress::Progress;

/// Measures the rows, from `count` pairs of runs.
///
/// # Errors
///
/// Fails if the guest fails.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let progress = Progress::new();
    let runs = in_turn(
        count,
        [&mut || port_cost::run(qemu, Some(&["device=latch@0x5000"])), &mut || {
            port_cost::run(qemu, None)
        }],
        |pair| progress.set(&format!("ports, counted or not: pair {} of {count}", pair + 1)),
    )?;
    drop(progress);

    let counted = |what, timed: Timed, over: Timed| {
        let pairs = runs.iter().map(|[with, _]| (with.least(timed), with.least(over)));
        Row::of(what, "QEMU's latch, counted too", "cycles", &pairs.collect::<Vec<_>>())
    };
    let plain = |what, timed: Timed, over: Timed| {
        let pairs = runs.iter().map(|[with, without]| (with.least(timed), without.least(over)));
        Row::of(what, "QEMU's latch without the plugin", "cycles", &pairs.collect::<Vec<_>>())
    };
    use Timed::{InOther, InQemu, OutOther, OutQemu};
    Ok(vec![
        counted("out on the plugin's latch", OutOther, OutQemu),
        counted("in on the plugin's latch", InOther, InQemu),
        plain("out on the plugin's latch", OutOther, OutQemu).target(0.70),
        plain("in on the plugin's latch", InOther, InQemu).target(0.70),
        plain("out on QEMU's latch, counted", OutQemu, OutQemu),
        plain("in on QEMU's latch, counted", InQemu, InQemu),
    ])
}
