//! A boot of Linux with the plugin and without (`qemu-scripts/boot-linux`).

use std::path::Path;

use anyhow::{Result, ensure};

use super::Row;
use crate::machine::{Ended, Machine};
use crate::measure::pairs;
use crate::places;
use crate::terminal::Progress;

/// The rows, of `count` pairs of boots.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let boot = places::linux_arguments()?;
    let linux = || Machine::new(qemu).args(&boot);
    let progress = Progress::new();
    let boots = pairs(
        count,
        || booted(linux().plugin(&["summary=off"]).run()?),
        || booted(linux().run()?),
        |pair| progress.set(&format!("Linux boot: pair {} of {count}", pair + 1)),
    )?;
    drop(progress);
    let figures = |figure: fn(&Ended) -> f64| -> Vec<(f64, f64)> {
        boots.iter().map(|(with, without)| (figure(with), figure(without))).collect()
    };
    let (what, over) = ("Linux boot with the plugin", "without");
    let wall = figures(|ended| ended.wall.as_secs_f64());
    let cpu = figures(|ended| ended.cpu.as_secs_f64());
    Ok(vec![Row::of(what, over, "s", &wall), Row::of(what, over, "s of CPU", &cpu)])
}

/// A boot that came to user space and powered off by itself.
fn booted(ended: Ended) -> Result<Ended> {
    ensure!(
        ended.status.success() && ended.stdout.contains("user space reached"),
        "Linux did not boot ({}): {}{}",
        ended.status,
        ended.stdout,
        ended.stderr
    );
    Ok(ended)
}
