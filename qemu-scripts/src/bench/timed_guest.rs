//! A guest that times things in turn and leaves the times, 64 bits each, on its debug console.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::expected_forms;
use crate::machine::Machine;
use crate::paths;

/// What one run of such a guest measured: for each of its rounds, each of its `COLUMNS` things.
pub(super) struct Run<const COLUMNS: usize> {
    rounds: Vec<[f64; COLUMNS]>,
}

impl<const COLUMNS: usize> Run<COLUMNS> {
    /// What a thing took in the round in which it took least. It is short enough to run undisturbed now and
    /// then, and whatever disturbs it only adds.
    pub fn least(&self, column: usize) -> f64 {
        self.rounds.iter().map(|round| round[column]).fold(f64::INFINITY, f64::min)
    }
}

/// Runs a guest under the plugin with these options, or without it. `counts` is how often it does each
/// thing at once: a time is of one.
pub(super) fn run<const COLUMNS: usize>(
    qemu: &Path,
    guest: &str,
    options: Option<&[&str]>,
    counts: [f64; COLUMNS],
) -> Result<Run<COLUMNS>> {
    let machine = Machine::new(qemu);
    let machine = match options {
        Some(options) => machine.plugin(&["summary=off"]).plugin(options),
        None => machine,
    };
    run_on(machine, guest, counts)
}

/// The same on a machine that has its plugin already, or none.
pub(super) fn run_on<const COLUMNS: usize>(
    machine: Machine,
    guest: &str,
    counts: [f64; COLUMNS],
) -> Result<Run<COLUMNS>> {
    let directory = tempfile::tempdir()?;
    let times = directory.path().join("times");
    let ended = machine
        .args(["-accel", "tcg", "-device", "pc-testdev"])
        .args(["-debugcon", &format!("file:{}", times.display())])
        .bare_guest(&paths::guest(guest)?)
        .run()?;
    ensure!(
        ended.status.code() == Some(expected_forms::PASSED),
        "{guest} could not measure ({}): {}",
        ended.status,
        ended.stderr
    );
    let bytes = std::fs::read(&times)?;
    let (times, _) = bytes.as_chunks::<8>();
    let times: Vec<f64> = times.iter().map(|time| u64::from_le_bytes(*time) as f64).collect();
    let (rounds, _) = times.as_chunks::<COLUMNS>();
    ensure!(!rounds.is_empty(), "{guest} measured nothing: {}", ended.stderr);
    let of_one = |round: &[f64; COLUMNS]| std::array::from_fn(|n| round[n] / counts[n]);
    Ok(Run { rounds: rounds.iter().map(of_one).collect() })
}
