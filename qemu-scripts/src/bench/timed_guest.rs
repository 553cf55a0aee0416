//! A guest that times things in turn and leaves the times, 64 bits each, on its debug console.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::forms;
use crate::machine::Machine;
use crate::places;

/// What one run of such a guest measured: for each of its rounds, each of its `COLUMNS` things.
pub(super) struct Run<const COLUMNS: usize> {
    pub rounds: Vec<[f64; COLUMNS]>,
}

/// Runs a guest under the plugin with these options, or without it. `counts` is how often it does each
/// thing at once: a time is of one.
pub(super) fn run<const COLUMNS: usize>(
    qemu: &Path,
    guest: &str,
    options: Option<&[&str]>,
    counts: [f64; COLUMNS],
) -> Result<Run<COLUMNS>> {
    let directory = tempfile::tempdir()?;
    let times = directory.path().join("times");
    let machine = Machine::new(qemu)
        .args(["-accel", "tcg", "-device", "pc-testdev"])
        .args(["-debugcon", &format!("file:{}", times.display())])
        .bare_guest(&places::guest(guest)?);
    let ended = match options {
        Some(options) => machine.plugin(&["summary=off"]).plugin(options).run()?,
        None => machine.run()?,
    };
    ensure!(
        ended.status.code() == Some(forms::PASSED),
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
