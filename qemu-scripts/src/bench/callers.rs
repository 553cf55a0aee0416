//! The cost of counting by call chain: for an access of a bare guest, and for a boot of Linux.

use std::path::Path;

use anyhow::Result;

use super::Row;
use super::linux::booted;
use crate::machine::{Ended, Machine};
use crate::measure::in_turn;
use crate::paths;
use crate::progress::Progress;

/// The number of accesses that the guest `callers-cost` makes.
const ACCESSES: f64 = 1e6;

/// Upper limit of the CPU time that a call chain adds to an access, in nanoseconds.
const LIMIT: f64 = 400.0;

/// Measures the rows, from `count` pairs of runs.
///
/// # Errors
///
/// Fails if a guest fails or Linux does not boot.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let image = paths::guest("callers-cost.bin")?;
    let bare = || Machine::new(qemu).args(["-accel", "tcg"]).bare_guest(&image);
    let guests = in_turns("call chains in a bare guest", count, bare, Ok)?;
    let added = guests.iter().map(|&[with, without]| ((with - without) * 1e9 / ACCESSES, LIMIT));
    let added: Vec<(f64, f64)> = added.map(|(added, limit)| (added.max(0.01), limit)).collect();

    let boot = paths::linux_arguments(&[])?;
    let linux = || Machine::new(qemu).args(&boot);
    let boots = in_turns("Linux boots by call chain", count, linux, booted)?;
    let boots: Vec<(f64, f64)> = boots.iter().map(|&[with, without]| (with, without)).collect();
    Ok(vec![
        Row::of("added to an access by a chain of 8 callers", "400 ns", "ns of CPU", &added)
            .target(1.0),
        Row::of("Linux boot with call chains", "without call chains", "s of CPU", &boots)
            .target(1.10),
    ])
}

/// Measures the CPU time of runs with and without call chains, in seconds.
fn in_turns(
    what: &str,
    count: usize,
    machine: impl Fn() -> Machine,
    check: impl Fn(Ended) -> Result<Ended>,
) -> Result<Vec<[f64; 2]>> {
    let progress = Progress::new();
    let run = |options: &[&str]| {
        let ended = check(machine().plugin(options).run()?)?;
        Ok(ended.cpu.as_secs_f64())
    };
    in_turn(
        count,
        [&mut || run(&["summary=off", "callers=on"]), &mut || run(&["summary=off"])],
        |pair| progress.set(&format!("{what}: pair {} of {count}", pair + 1)),
    )
}
