//! The cost of counting `in` and `out` at a port without a device.
//!
//! In some rows the port is known only when the instruction runs, in others at translation.

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
        [&mut || port_cost::run(qemu, Some(&[])), &mut || port_cost::run(qemu, None)],
        |pair| progress.set(&format!("unclaimed ports: pair {} of {count}", pair + 1)),
    )?;
    drop(progress);

    let row = |what, timed: Timed| {
        let pairs = runs.iter().map(|[with, without]| (with.least(timed), without.least(timed)));
        Row::of(what, "without the plugin", "cycles", &pairs.collect::<Vec<_>>()).target(1.10)
    };
    Ok(vec![
        row("out dx,al, unclaimed, counted", Timed::OutOther),
        row("in al,dx, unclaimed, counted", Timed::InOther),
        row("mov edx,port; out dx,al, unclaimed, counted", Timed::OutKnown),
        row("mov edx,port; in al,dx, unclaimed, counted", Timed::InKnown),
        row("out imm8,al, unclaimed, counted", Timed::OutImm8),
        row("in al,imm8, unclaimed, counted", Timed::InImm8),
    ])
}
