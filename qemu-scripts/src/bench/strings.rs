//! `rep outsb` and `rep insb` of 64 KiB on devices of the plugin's and on QEMU's own latch, by a guest that
//! times them in turn (`tests/guests/string-cost.S`).

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

/// How many bytes a string has.
const BYTES: usize = 1 << 16;
const COUNTS: [f64; 4] = [BYTES as f64; 4];

/// At least as many strings as the guest reads in one run.
const STRINGS: usize = 64;

/// The rows, `count` pairs of runs for those that take two.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let [input, output] = ["in", "out"].map(|name| directory.path().join(name));
    std::fs::write(&input, vec![0x5a; STRINGS * BYTES])?;
    let latch = "device=latch@0x5000";
    let stream = format!("device=stream@0x5000:in={}:out={}", input.display(), output.display());

    let run = |options: Option<&[&str]>| timed_guest::run(qemu, "string-cost.bin", options, COUNTS);
    let progress = Progress::new();
    progress.set("strings: the plugin's stream and QEMU's latch");
    let with_stream = run(Some(&[&stream]))?;
    progress.set("strings: the plugin's latch and QEMU's");
    let with_latch = run(Some(&[latch]))?;
    let uncounted = pairs(
        count,
        || run(Some(&[latch])),
        || run(None),
        |pair| progress.set(&format!("strings, counted or not: pair {} of {count}", pair + 1)),
    )?;
    drop(progress);

    let same_run = |run: &Run<4>, what: Timed, over: Timed| -> Vec<(f64, f64)> {
        run.rounds.iter().map(|round| (round[what as usize], round[over as usize])).collect()
    };
    let middle =
        |run: &Run<4>, timed: Timed| median(run.rounds.iter().map(|round| round[timed as usize]));
    let two_runs = |what: Timed, over: Timed| -> Vec<(f64, f64)> {
        uncounted
            .iter()
            .map(|(with, without)| (middle(with, what), middle(without, over)))
            .collect()
    };
    use Timed::{InOther, InQemu, OutOther, OutQemu};
    let (counted, plain) = ("QEMU's latch, counted too", "QEMU's latch without the plugin");
    let row = |what, over, pairs: &[(f64, f64)]| Row::of(what, over, "cycles", pairs);
    Ok(vec![
        row("rep outsb on the plugin's latch", counted, &same_run(&with_latch, OutOther, OutQemu)),
        row("rep insb on the plugin's latch", counted, &same_run(&with_latch, InOther, InQemu)),
        row(
            "rep outsb on the plugin's stream",
            counted,
            &same_run(&with_stream, OutOther, OutQemu),
        ),
        row("rep insb on the plugin's stream", counted, &same_run(&with_stream, InOther, InQemu)),
        row("rep outsb on the plugin's latch", plain, &two_runs(OutOther, OutQemu)),
        row("rep insb on the plugin's latch", plain, &two_runs(InOther, InQemu)),
    ])
}
