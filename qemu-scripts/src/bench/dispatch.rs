//! The cost of finding a device: a latch among 1,000 devices, compared with a latch alone.

use std::path::Path;

use anyhow::Result;

use super::Row;
use super::calls;
use super::port_cost::{self, Timed};
use crate::measure::in_turn;
use crate::progress::Progress;

/// Number of devices.
const MANY: u16 = 1000;

/// The device that the guests use.
const MEASURED: &str = "device=latch@0x5000";

/// First port of the other devices, four ports each. QEMU has no device there.
const OTHERS: u16 = 0x6000;

/// Measures the rows, from `count` pairs of runs.
///
/// `answers` is true if this QEMU's plugins can answer hypercalls; otherwise their row is left out.
///
/// # Errors
///
/// Fails if a guest fails.
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
