//! The same guest with pvio, with an empty plugin (`qemu-scripts/empty-plugin`) and without a plugin.
//!
//! This separates pvio's cost from QEMU's cost of having a plugin.

use anyhow::Result;

use super::Row;
use crate::machine::{Ended, Machine};
use crate::measure::in_turn;
use crate::paths;

/// Results with pvio, with the empty plugin and without a plugin.
pub(super) type ByPlugin<T> = [T; 3];

/// Measures runs of a machine in each of the three ways alternately, `count` times.
pub(super) fn in_turn_by_plugin<T>(
    count: usize,
    machine: impl Fn() -> Machine,
    measure: impl Fn(Ended) -> Result<T>,
    begins: impl FnMut(usize),
) -> Result<Vec<ByPlugin<T>>> {
    let empty = paths::empty_plugin()?;
    let empty = format!("file={}", empty.to_string_lossy().replace(',', ",,"));
    in_turn(
        count,
        [
            &mut || measure(machine().plugin(&["summary=off"]).run()?),
            &mut || measure(machine().args(["-plugin", &empty]).run()?),
            &mut || measure(machine().run()?),
        ],
        begins,
    )
}

/// Makes the three ratios. `pvio` and `empty` name the run with each plugin.
pub(super) fn rows(
    [pvio, empty]: [&'static str; 2],
    unit: &'static str,
    results: &[ByPlugin<f64>],
) -> Vec<Row> {
    let row = |what, over, pair: fn(&ByPlugin<f64>) -> (f64, f64)| {
        Row::of(what, over, unit, &results.iter().map(pair).collect::<Vec<_>>())
    };
    vec![
        row(pvio, "with an empty plugin", |&[pvio, empty, _]| (pvio, empty)).target(1.02),
        row(pvio, "without a plugin", |&[pvio, _, none]| (pvio, none)),
        row(empty, "without a plugin", |&[_, empty, none]| (empty, none)),
    ]
}
