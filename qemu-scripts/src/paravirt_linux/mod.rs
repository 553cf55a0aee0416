//! A Linux kernel with pvio's guest support, booted with its parameter `nopvio` and without.
//!
//! `qemu-scripts/paravirt-linux` builds the kernel; [`compare`] boots it both ways and makes a [`Report`].

mod guest;
mod report;
mod stage;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

pub(crate) use guest::PARAMETERS;
pub use guest::{Disk, Guest, Run, Way};
pub use report::{Counts, DiskCounts, Report};
pub(crate) use report::{by_stage, port_io_calls, refused, side_by_side};
pub use stage::{Layout, Stage};

use crate::measure::in_turn;

/// CPU time of QEMU in one run, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// From the start of QEMU to user space.
    pub boot: f64,
    /// Reading the disk.
    pub read: f64,
    /// Writing the disk.
    pub write: f64,
}

/// Boots a kernel both ways, and compares what the plugin counted, what the disk has, and the CPU time of QEMU.
///
/// The median of `rounds` runs is taken for each time. `progress` gets a line for each step.
///
/// # Errors
///
/// Fails if the kernel does not boot, if it takes another way than it was told to, or if the disk has other contents than
/// it should.
pub fn compare(
    qemu: &Path,
    guest: &Guest,
    rounds: usize,
    mut progress: impl FnMut(&str),
) -> Result<Report> {
    let mut count = |way: Way| -> Result<(Run, Run)> {
        progress(&format!("booting by {}", way.name()));
        let boot = guest.boot(qemu, way)?;
        progress(&format!("disk without DMA by {}", way.name()));
        Ok((boot, guest.use_disk(qemu, way)?))
    };
    let counted = [count(Way::Instructions)?, count(Way::Hypercalls)?];
    let times = times(qemu, guest, rounds, |round| {
        progress(&format!("measuring CPU time: round {} of {rounds}", round + 1));
    })?;
    report::of(guest, counted, &times)
}

/// Measures the times of both ways, `rounds` times in turn: instructions first, then hypercalls.
///
/// # Errors
///
/// The same as for [`compare`].
pub fn times(
    qemu: &Path,
    guest: &Guest,
    rounds: usize,
    begins: impl FnMut(usize),
) -> Result<Vec<[Times; 2]>> {
    let measure = |way| {
        let times = guest.use_disk(qemu, way)?.times;
        times.context("the guest printed no marks")
    };
    let times = in_turn(
        rounds,
        [&mut || measure(Way::Instructions), &mut || measure(Way::Hypercalls)],
        begins,
    )?;
    ensure!(!times.is_empty(), "there is nothing to measure in 0 rounds");
    Ok(times)
}
