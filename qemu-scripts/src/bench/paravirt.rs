//! A Linux kernel whose port I/O is by hypercalls (`qemu-scripts/paravirt-linux`), over the same kernel with `nopvio`.

use std::path::Path;

use anyhow::Result;

use super::Row;
use crate::paravirt_linux::{Guest, Times, times};
use crate::paths;
use crate::progress::Progress;

/// Measures the rows, from `count` pairs of runs. `disk_target` is the upper limit for the disk.
///
/// # Errors
///
/// Fails if the kernel is not built, or does not boot.
pub fn rows(qemu: &Path, count: usize, disk_target: f64) -> Result<Vec<Row>> {
    let guest = Guest::new(&paths::paravirt_linux("6.12", "i386")?)?;
    let progress = Progress::new();
    let measured = times(qemu, &guest, count, |round| {
        progress.set(&format!("Linux by hypercalls: round {} of {count}", round + 1));
    })?;
    drop(progress);
    let row = |what, over, time: fn(&Times) -> f64| {
        let pairs: Vec<(f64, f64)> =
            measured.iter().map(|[native, calls]| (time(calls), time(native))).collect();
        Row::of(what, over, "s of CPU", &pairs)
    };
    Ok(vec![
        row("Linux boot by hypercalls", "Linux boot with nopvio", |times| times.boot).target(0.97),
        row("disk read by hypercalls", "disk read with nopvio", |times| times.read)
            .target(disk_target),
        row("disk write by hypercalls", "disk write with nopvio", |times| times.write)
            .target(disk_target),
    ])
}
