//! Hypercalls and the instructions in whose place they are, by a guest that times them in turn
//! (`tests/guests/call-cost.S`).

use std::path::Path;

use anyhow::Result;

use super::Row;
use super::timed_guest;
use crate::terminal::Progress;

/// What the guest times, in its order.
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
}

/// How many of each it times at once: accesses, bytes of a string, operations in batches.
const COUNTS: [f64; 11] = {
    let (scalars, string, batches) = (20_000.0, 65_536.0, 64.0 * 300.0);
    [scalars, scalars, scalars, scalars, scalars, scalars, string, string, string, string, batches]
};

/// The rows, from one run, which has 31 rounds.
pub fn rows(qemu: &Path) -> Result<Vec<Row>> {
    let progress = Progress::new();
    progress.set("calls: by instruction and by hypercall");
    let options: &[&str] = &["hypercall=kernel", "device=latch@0x5000"];
    let run = timed_guest::run(qemu, "call-cost.bin", Some(options), COUNTS)?;
    drop(progress);

    let row = |what, over, a: Timed, b: Timed| {
        let pairs = run.rounds.iter().map(|round| (round[a as usize], round[b as usize]));
        Row::of(what, over, "cycles", &pairs.collect::<Vec<_>>())
    };
    use Timed::*;
    let (out, r#in) = ("out on QEMU's latch", "in on QEMU's latch");
    Ok(vec![
        row("hypercall outb, plugin's latch", out, CallOut, Out),
        row("hypercall inb, plugin's latch", r#in, CallIn, In),
        row("hypercall outb, QEMU's latch", out, CallOutQemu, Out),
        row("hypercall inb, QEMU's latch", r#in, CallInQemu, In),
        row("batch of 64 outb, each", out, Batch, Out),
        row("hypercall outsb 64 KiB, a byte", "rep outsb on QEMU's latch", CallOuts, RepOuts),
        row("hypercall insb 64 KiB, a byte", "rep insb on QEMU's latch", CallIns, RepIns),
    ])
}
