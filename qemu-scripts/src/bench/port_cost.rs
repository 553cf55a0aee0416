//! The guest that times `in` and `out` (`tests/guests/port-cost.S`).

use std::path::Path;

use anyhow::Result;

use super::timed_guest;

/// What it times, in its order.
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

/// How many accesses it times at once.
const COUNTS: [f64; 8] = [20_000.0; 8];

/// What one run of it measured.
pub(super) struct Run(timed_guest::Run<8>);

impl Run {
    /// What one access took in the round in which it took least.
    pub fn least(&self, timed: Timed) -> f64 {
        self.0.least(timed as usize)
    }
}

/// Runs it under the plugin with these options, or without it.
pub(super) fn run(qemu: &Path, options: Option<&[&str]>) -> Result<Run> {
    timed_guest::run(qemu, "port-cost.bin", options, COUNTS).map(Run)
}
