//! A guest that times several things alternately and writes the times to its debug console.
//!
//! Each time has 64 bits.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::expected_forms;
use crate::machine::Machine;
use crate::paths;

/// Times of one run: for each round, one time for each of `COLUMNS` things.
pub(super) struct Run<const COLUMNS: usize> {
    rounds: Vec<[f64; COLUMNS]>,
}

impl<const COLUMNS: usize> Run<COLUMNS> {
    /// Cycles of one operation in its fastest round.
    ///
    /// Rounds are short, so some run undisturbed; a disturbance only adds time.
    pub fn least(&self, column: usize) -> f64 {
        self.rounds.iter().map(|round| round[column]).fold(f64::INFINITY, f64::min)
    }
}

/// Runs a guest under the plugin with these options; `None` runs it without the plugin.
///
/// `counts` is the number of operations that each time covers.
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

/// Runs a guest like [`run`], on a machine whose plugin is configured already.
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
        "{guest} failed ({}): {}",
        ended.status,
        ended.stderr
    );
    let bytes = std::fs::read(&times)?;
    let (times, _) = bytes.as_chunks::<8>();
    let times: Vec<f64> = times.iter().map(|time| u64::from_le_bytes(*time) as f64).collect();
    let (rounds, _) = times.as_chunks::<COLUMNS>();
    ensure!(!rounds.is_empty(), "{guest} wrote no times: {}", ended.stderr);
    let of_one = |round: &[f64; COLUMNS]| std::array::from_fn(|n| round[n] / counts[n]);
    Ok(Run { rounds: rounds.iter().map(of_one).collect() })
}
