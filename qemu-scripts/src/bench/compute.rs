//! Linux, once it has booted, at work that needs no ports: a program that compresses and says how long that
//! took (`tests/guests/linux/compress.c`).

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Row;
use super::plugins::{self, in_turn_by_plugin};
use crate::linux::LinuxGuest;
use crate::machine::{Ended, Machine};
use crate::paths;
use crate::progress::Progress;

/// How often it does the same in one boot; of each piece of it the least time counts.
const TIMES: u32 = 5;

/// The rows, of `count` rounds of boots.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let program = std::fs::read(paths::guest("compress")?)?;
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

/// How many million cycles it took, where all of it was right.
fn compressed(ended: Ended) -> Result<f64> {
    let mut lines = ended.stdout.lines();
    let cycles = lines.find_map(|line| {
        line.trim_end().strip_prefix("compress: ")?.strip_suffix(" cycles")?.parse::<f64>().ok()
    });
    let wrong = || format!("Linux did not compress: {}{}", ended.stdout, ended.stderr);
    ensure!(ended.status.success(), "{}", wrong());
    Ok(cycles.with_context(wrong)? / 1e6)
}
