//! A boot of Linux (`qemu-scripts/boot-linux`).

use std::path::Path;

use anyhow::{Result, ensure};

use super::Row;
use super::plugins::{self, ByPlugin, in_turn_by_plugin};
use crate::machine::{Ended, Machine};
use crate::paths;
use crate::progress::Progress;

/// Measures the rows, from `count` rounds of boots.
///
/// # Errors
///
/// Fails if Linux does not boot.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let boot = paths::linux_arguments(&[])?;
    let progress = Progress::new();
    let boots = in_turn_by_plugin(
        count,
        || Machine::new(qemu).args(&boot),
        booted,
        |round| progress.set(&format!("Linux boots: round {} of {count}", round + 1)),
    )?;
    drop(progress);
    let what = ["Linux boot with pvio", "Linux boot with an empty plugin"];
    let rows = |unit, time: fn(&Ended) -> f64| {
        let times: Vec<ByPlugin<f64>> =
            boots.iter().map(|boots| boots.each_ref().map(time)).collect();
        plugins::rows(what, unit, &times)
    };
    let mut all = rows("s", |ended| ended.wall.as_secs_f64());
    all.extend(rows("s of CPU", |ended| ended.cpu.as_secs_f64()));
    Ok(all)
}

/// Fails unless the boot reached user space and powered off.
pub(super) fn booted(ended: Ended) -> Result<Ended> {
    ensure!(
        ended.status.success() && ended.stdout.contains("user space reached"),
        "Linux did not boot ({}): {}{}",
        ended.status,
        ended.stdout,
        ended.stderr
    );
    Ok(ended)
}
