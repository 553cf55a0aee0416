//! Accesses of several vCPUs at once, each with its own latch.
//!
//! The guest is `tests/guests/smp-cost.S`.

use std::path::Path;

use anyhow::Result;

use super::Row;
use super::timed_guest;
use crate::machine::Machine;
use crate::measure::in_turn;
use crate::progress::Progress;

/// Devices for up to four vCPUs.
const DEVICES: [&str; 4] =
    ["device=latch@0x5000", "device=latch@0x5010", "device=latch@0x5020", "device=latch@0x5030"];

/// Accesses of each vCPU that the time covers.
const COUNTS: [f64; 1] = [10_000.0];

/// Measures the rows, from `count` rounds of runs.
///
/// # Errors
///
/// Fails if the guest fails.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let progress = Progress::new();
    // Accesses of all vCPUs in a thousand cycles.
    let accesses = |vcpus: u16| {
        let machine = Machine::new(qemu).args(["-smp", &vcpus.to_string()]);
        let machine = machine.plugin(&["summary=off"]).plugin(&DEVICES);
        let run = timed_guest::run_on(machine, "smp-cost.bin", COUNTS)?;
        Ok(1000.0 * f64::from(vcpus) / run.least(0))
    };
    let runs =
        in_turn(count, [&mut || accesses(1), &mut || accesses(2), &mut || accesses(4)], |round| {
            progress.set(&format!("vCPUs: round {} of {count}", round + 1))
        })?;
    drop(progress);

    let row = |what, vcpus: fn(&[f64; 3]) -> f64| {
        let pairs = runs.iter().map(|run| (vcpus(run), run[0]));
        Row::of(what, "1 vCPU", "a kilocycle", &pairs.collect::<Vec<_>>())
    };
    Ok(vec![
        row("outs of 2 vCPUs, a latch each", |run| run[1]),
        row("outs of 4 vCPUs, a latch each", |run| run[2]),
    ])
}
