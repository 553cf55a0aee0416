//! The guest that times `in` and `out` (`tests/guests/port-cost.S`).

use std::path::Path;

use anyhow::Result;

use super::timed_guest;

/// Columns of the guest's times, in its order.
#[derive(Clone, Copy)]
pub(super) enum Timed {
    OutQemu,
    OutOther,
    InQemu,
    InOther,
    OutKnown,
    InKnown,
    OutImm8,
    InImm8,
}

/// Loops of a round: each has a time.
pub(super) const LOOPS: usize = 8;

/// Accesses that each time covers.
const COUNTS: [f64; LOOPS] = [20_000.0; LOOPS];

/// Times of one run.
pub(super) struct Run(timed_guest::Run<LOOPS>);

impl Run {
    /// Cycles of one access in the fastest round.
    pub fn least(&self, timed: Timed) -> f64 {
        self.0.least(timed as usize)
    }
}

/// Runs the guest under the plugin with these options; `None` runs it without the plugin.
pub(super) fn run(qemu: &Path, options: Option<&[&str]>) -> Result<Run> {
    timed_guest::run(qemu, "port-cost.bin", options, COUNTS).map(Run)
}
