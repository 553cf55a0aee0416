//! The same guest with pvio, with a plugin that does nothing (`qemu-scripts/empty-plugin`) and with none: what
//! QEMU takes for having a plugin at all is not pvio's price.

use anyhow::Result;

use super::Row;
use crate::machine::{Ended, Machine};
use crate::measure::in_turn;
use crate::paths;

/// What was measured with pvio, with the empty plugin and with none.
pub(super) type ByPlugin<T> = [T; 3];

/// Runs what `machine` makes with each of the three in turn, `count` times, and takes `measure` of each.
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

/// The three ratios of a figure. `pvio` and `empty` say what ran, with which of the two.
pub(super) fn rows(
    [pvio, empty]: [&'static str; 2],
    unit: &'static str,
    figures: &[ByPlugin<f64>],
) -> Vec<Row> {
    let row = |what, over, pair: fn(&ByPlugin<f64>) -> (f64, f64)| {
        Row::of(what, over, unit, &figures.iter().map(pair).collect::<Vec<_>>())
    };
    vec![
        row(pvio, "with an empty plugin", |&[pvio, empty, _]| (pvio, empty)).target(1.02),
        row(pvio, "without a plugin", |&[pvio, _, none]| (pvio, none)),
        row(empty, "without a plugin", |&[_, empty, none]| (empty, none)),
    ]
}
