//! Calls through a mailbox, compared with the instructions that they replace.
//!
//! The guest `tests/guests/mailbox-cost.S` times both alternately.

use std::path::Path;

use anyhow::Result;

use super::Row;
use super::timed_guest;
use crate::progress::Progress;

/// Columns of the guest's times, in its order.
#[derive(Clone, Copy)]
enum Timed {
    Out,
    In,
    CallOut,
    CallIn,
}

/// Operations that each time covers.
const COUNTS: [f64; 4] = [20_000.0; 4];

/// Measures the rows, from `count` runs. `target` is their upper limit.
///
/// # Errors
///
/// Fails if the guest fails.
pub fn rows(qemu: &Path, count: usize, target: f64) -> Result<Vec<Row>> {
    let progress = Progress::new();
    let run = |n| {
        progress.set(&format!("mailbox: run {} of {count}", n + 1));
        timed_guest::run(qemu, "mailbox-cost.bin", Some(&["device=latch@0x5000"]), COUNTS)
    };
    let runs = (0..count).map(run).collect::<Result<Vec<_>>>()?;
    drop(progress);

    let row = |what, over, a: Timed, b: Timed| {
        let pairs = runs.iter().map(|run| (run.least(a as usize), run.least(b as usize)));
        Row::of(what, over, "cycles", &pairs.collect::<Vec<_>>()).target(target)
    };
    use Timed::*;
    Ok(vec![
        row("mailbox outb, plugin's latch", "out on QEMU's latch, counted", CallOut, Out),
        row("mailbox inb, plugin's latch", "in on QEMU's latch, counted", CallIn, In),
    ])
}
