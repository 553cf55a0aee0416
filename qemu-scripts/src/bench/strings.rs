//! Strings of 64 KiB on the plugin's devices and on QEMU's latch.
//!
//! The guest `tests/guests/string-cost.S` times them alternately.

use std::path::Path;

use anyhow::Result;

use super::Row;
use super::timed_guest::{self, Run};
use crate::measure::in_turn;
use crate::progress::Progress;

/// Columns of the guest's times, in its order.
#[derive(Clone, Copy)]
enum Timed {
    OutQemu,
    OutOther,
    InQemu,
    InOther,
}

/// Bytes of a string.
const BYTES: usize = 1 << 16;
const COUNTS: [f64; 4] = [BYTES as f64; 4];

/// Number of strings in the stream's input. The guest reads no more in one run.
const STRINGS: usize = 64;

/// Measures the rows, from `count` rounds of runs.
///
/// # Errors
///
/// Fails if the guest fails.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let [input, output] = ["in", "out"].map(|name| directory.path().join(name));
    std::fs::write(&input, vec![0x5a; STRINGS * BYTES])?;
    let latch = "device=latch@0x5000";
    let stream = format!("device=stream@0x5000:in={}:out={}", input.display(), output.display());

    let run = |options: Option<&[&str]>| timed_guest::run(qemu, "string-cost.bin", options, COUNTS);
    let progress = Progress::new();
    let runs = in_turn(
        count,
        [&mut || run(Some(&[latch])), &mut || run(Some(&[&stream])), &mut || run(None)],
        |round| progress.set(&format!("strings: round {} of {count}", round + 1)),
    )?;
    drop(progress);

    type Pick = fn(&[Run<4>; 3]) -> (&Run<4>, &Run<4>);
    let row = |what, over, runs_of: Pick, (a, b): (Timed, Timed)| {
        let pairs = runs.iter().map(|three| {
            let (what, over) = runs_of(three);
            (what.least(a as usize), over.least(b as usize))
        });
        Row::of(what, over, "cycles", &pairs.collect::<Vec<_>>())
    };
    use Timed::{InOther, InQemu, OutOther, OutQemu};
    let (out, r#in) = ((OutOther, OutQemu), (InOther, InQemu));
    let (counted, plain) = ("QEMU's latch, counted too", "QEMU's latch without the plugin");
    let latches: Pick = |[latch, _, _]| (latch, latch);
    let streams: Pick = |[_, stream, _]| (stream, stream);
    let uncounted: Pick = |[latch, _, none]| (latch, none);
    let target = 1.0 / 100.0;
    Ok(vec![
        row("rep outsb, plugin's latch, a byte", counted, latches, out).target(target),
        row("rep insb, plugin's latch, a byte", counted, latches, r#in).target(target),
        row("rep outsb, plugin's stream, a byte", counted, streams, out).target(target),
        row("rep insb, plugin's stream, a byte", counted, streams, r#in).target(target),
        row("rep outsb, plugin's latch, a byte", plain, uncounted, out).target(target),
        row("rep insb, plugin's latch, a byte", plain, uncounted, r#in).target(target),
    ])
}
