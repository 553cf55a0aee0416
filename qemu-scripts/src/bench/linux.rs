//! A boot of Linux (`qemu-scripts/boot-linux`).

use std::path::Path;

use anyhow::{Result, ensure};

use super::Row;
use super::plugins::{self, ByPlugin, in_turn_by_plugin};
use crate::machine::{Ended, Machine};
use crate::paths;
use crate::progress::Progress;

/// The rows, of `count` rounds of boots.
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
    let rows = |unit, figure: fn(&Ended) -> f64| {
        let figures: Vec<ByPlugin<f64>> =
            boots.iter().map(|boots| boots.each_ref().map(figure)).collect();
        plugins::rows(what, unit, &figures)
    };
    let mut all = rows("s", |ended| ended.wall.as_secs_f64());
    all.extend(rows("s of CPU", |ended| ended.cpu.as_secs_f64()));
    Ok(all)
}

/// A boot that came to user space and powered off by itself.
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
