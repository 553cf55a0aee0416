//! Computation in Linux, without port I/O.
//!
//! The program `tests/guests/linux/compress.c` compresses and prints its time.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Row;
use super::plugins::{self, in_turn_by_plugin};
use crate::linux::LinuxGuest;
use crate::machine::{Ended, Machine};
use crate::paths;
use crate::progress::Progress;

/// Repetitions in one boot. The shortest time of each piece counts.
const REPETITIONS: u32 = 5;

/// Measures the rows, from `count` rounds of boots.
///
/// # Errors
///
/// Fails if Linux does not boot or does not compress.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let program = std::fs::read(paths::guest("compress")?)?;
    let linux = LinuxGuest::new(&format!("/compress {REPETITIONS}"), &[("compress", &program)])?;
    let progress = Progress::new();
    let times = in_turn_by_plugin(
        count,
        || linux.on(Machine::new(qemu)),
        compressed,
        |round| progress.set(&format!("compression: round {} of {count}", round + 1)),
    )?;
    drop(progress);
    let what = ["compression in Linux with pvio", "compression in Linux with an empty plugin"];
    Ok(plugins::rows(what, "Mcycles", &times))
}

/// Returns the program's time in millions of cycles.
fn compressed(ended: Ended) -> Result<f64> {
    let mut lines = ended.stdout.lines();
    let cycles = lines.find_map(|line| {
        line.trim_end().strip_prefix("compress: ")?.strip_suffix(" cycles")?.parse::<f64>().ok()
    });
    let wrong = || format!("Linux did not compress: {}{}", ended.stdout, ended.stderr);
    ensure!(ended.status.success(), "{}", wrong());
    Ok(cycles.with_context(wrong)? / 1e6)
}
