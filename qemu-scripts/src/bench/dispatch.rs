//! What it costs to find a device among many: a latch that is the plugin's only device, and the same one
//! among a thousand.

use std::path::Path;

use anyhow::Result;

use super::Row;
use super::calls;
use super::port_cost::{self, Timed};
use crate::measure::in_turn;
use crate::progress::Progress;

/// How many there are then.
const MANY: u16 = 1000;

/// The one that the guests use.
const MEASURED: &str = "device=latch@0x5000";

/// Where the others are, side by side, four ports each. QEMU has nothing there.
const OTHERS: u16 = 0x6000;

/// The rows, of `count` pairs of runs; those of hypercalls only where a plugin can answer.
pub fn rows(qemu: &Path, count: usize, answers: bool) -> Result<Vec<Row>> {
    let others = (0..MANY - 1).map(|n| format!("device=latch@{:#x}", OTHERS + 4 * n));
    let mut many: Vec<String> = others.collect();
    many.insert(many.len() / 2, MEASURED.to_owned());
    let many: Vec<&str> = many.iter().map(String::as_str).collect();

    let alone = "the only device";
    let progress = Progress::new();
    let says = |what: &str, pair| {
        progress.set(&format!("dispatch, by {what}: pair {} of {count}", pair + 1));
    };
    let row = |what, pairs: Vec<(f64, f64)>| Row::of(what, alone, "cycles", &pairs);

    let by_port = in_turn(
        count,
        [&mut || port_cost::run(qemu, Some(&many)), &mut || {
            port_cost::run(qemu, Some(&[MEASURED]))
        }],
        |pair| says("instruction", pair),
    )?;
    let by_port = |timed: Timed| {
        by_port.iter().map(|[many, one]| (many.least(timed), one.least(timed))).collect()
    };
    let mut rows = vec![
        row("out on one of 1,000 latches", by_port(Timed::OutOther)),
        row("in on one of 1,000 latches", by_port(Timed::InOther)),
    ];
    if answers {
        let calls = in_turn(
            count,
            [&mut || calls::outb(qemu, &many), &mut || calls::outb(qemu, &[MEASURED])],
            |pair| says("hypercall", pair),
        )?;
        let calls = calls.into_iter().map(|[many, one]| (many, one)).collect();
        rows.push(row("hypercall outb on one of 1,000 latches", calls));
    }
    Ok(rows)
}
