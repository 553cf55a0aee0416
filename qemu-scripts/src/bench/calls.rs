//! Hypercalls, compared with the instructions that they replace.
//!
//! The guest `tests/guests/call-cost.S` times both alternately.

use std::path::Path;

use anyhow::Result;

use super::Row;
use super::timed_guest::{self, Run};
use crate::progress::Progress;

/// Columns of the guest's times, in its order.
#[derive(Clone, Copy)]
enum Timed {
    Out,
    In,
    CallOut,
    CallIn,
    CallOutQemu,
    CallInQemu,
    RepOuts,
    RepIns,
    CallOuts,
    CallIns,
    Batch,
    CompactBatch,
}

/// Operations that each time covers: accesses, bytes of a string, operations in batches.
const COUNTS: [f64; 12] = {
    let (scalar, string, batch) = (20_000.0, 65_536.0, 64.0 * 300.0);
    [scalar, scalar, scalar, scalar, scalar, scalar, string, string, string, string, batch, batch]
};

/// Measures the rows, from `count` runs.
///
/// # Errors
///
/// Fails if the guest fails.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let progress = Progress::new();
    let runs: Vec<_> = (0..count)
        .map(|n| {
            progress.set(&format!("calls: run {} of {count}", n + 1));
            run(qemu, &["device=latch@0x5000"])
        })
        .collect::<Result<_>>()?;
    drop(progress);

    let row = |what, over, a: Timed, b: Timed| {
        let pairs = runs.iter().map(|run| (run.least(a as usize), run.least(b as usize)));
        Row::of(what, over, "cycles", &pairs.collect::<Vec<_>>())
    };
    use Timed::*;
    let (out, r#in) = ("out on QEMU's latch, counted", "in on QEMU's latch, counted");
    Ok(vec![
        row("hypercall outb, plugin's latch", out, CallOut, Out).target(0.80),
        row("hypercall inb, plugin's latch", r#in, CallIn, In).target(0.80),
        row("hypercall outb, QEMU's latch", out, CallOutQemu, Out).target(1.2),
        row("hypercall inb, QEMU's latch", r#in, CallInQemu, In).target(1.2),
        row("batch of 64 outb, each", out, Batch, Out),
        row("compact batch of 64 outb, each", out, CompactBatch, Out).target(0.10),
        row("hypercall outsb 64 KiB, a byte", "rep outsb on it, counted", CallOuts, RepOuts)
            .target(1.0 / 500.0),
        row("hypercall insb 64 KiB, a byte", "rep insb on it, counted", CallIns, RepIns)
            .target(1.0 / 500.0),
    ])
}

/// Cycles of one hypercall `outb` to the latch at 0x5000, with these devices.
pub(super) fn outb(qemu: &Path, devices: &[&str]) -> Result<f64> {
    Ok(run(qemu, devices)?.least(Timed::CallOut as usize))
}

fn run(qemu: &Path, devices: &[&str]) -> Result<Run<12>> {
    timed_guest::run(qemu, "call-cost.bin", Some(devices), COUNTS)
}
