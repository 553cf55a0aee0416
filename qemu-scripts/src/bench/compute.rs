//! Linux, once it has booted, at work that needs no ports: a program that compresses and says how long that
//! took (`tests/guests/linux/compress.c`).

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Row;
use super::plugins::{self, in_turn_by_plugin};
use crate::linux::LinuxGuest;
use crate::machine::{Ended, Machine};
use crate::places;
use crate::terminal::Progress;

/// How often it does the same in one boot. The least counts: whatever else goes on only adds to it.
const TIMES: usize = 3;

/// The rows, of `count` rounds of boots.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let program = std::fs::read(places::guest("compress")?)?;
    let linux = LinuxGuest::new(&format!("/compress {TIMES}"), &[("compress", &program)])?;
    let progress = Progress::new();
    let figures = in_turn_by_plugin(
        count,
        || linux.on(Machine::new(qemu)),
        compressed,
        |round| progress.set(&format!("compression: round {} of {count}", round + 1)),
    )?;
    drop(progress);
    let what = ["compression in Linux with pvio", "compression in Linux with an empty plugin"];
    Ok(plugins::rows(what, "Mcycles", &figures))
}

/// How many million cycles it took, once it has been right each time.
fn compressed(ended: Ended) -> Result<f64> {
    let wrong = || format!("Linux did not compress: {}{}", ended.stdout, ended.stderr);
    let lines = ended.stdout.lines().filter_map(|line| line.trim_end().strip_prefix("compress: "));
    let cycles = lines
        .map(|line| line.strip_suffix(" cycles").and_then(|cycles| cycles.parse::<f64>().ok()))
        .collect::<Option<Vec<f64>>>()
        .with_context(wrong)?;
    ensure!(ended.status.success() && cycles.len() == TIMES, "{}", wrong());
    Ok(cycles.into_iter().fold(f64::INFINITY, f64::min) / 1e6)
}
