//! The cost of counting by process: for a program of Linux that uses ports, and for a boot of Linux.

use std::path::Path;

use anyhow::{Result, ensure};

use super::Row;
use super::linux::booted;
use crate::linux::LinuxGuest;
use crate::machine::{Ended, Machine};
use crate::measure::in_turn;
use crate::paths;
use crate::progress::Progress;

/// Number of `out` and of `in` that the program executes.
const TIMES: u32 = 500_000;

/// Measures the rows, from `count` pairs of runs.
///
/// # Errors
///
/// Fails if Linux does not boot, or if the program fails.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let program = std::fs::read(paths::guest("task")?)?;
    let script = format!("/task {TIMES} > /dev/null && echo the program passed");
    let linux = LinuxGuest::new(&script, &[("task", &program)])?;
    let passed = |ended: Ended| {
        ensure!(ended.stdout.contains("the program passed"), "{}{}", ended.stdout, ended.stderr);
        Ok(ended)
    };
    let programs = pairs("programs by process", count, || linux.on(Machine::new(qemu)), passed)?;
    let boot = paths::linux_arguments(&[])?;
    let boots = pairs("Linux boots by process", count, || Machine::new(qemu).args(&boot), booted)?;
    let over = "counted without";
    Ok(vec![
        Row::of("a million in and out of a program, by process", over, "s of CPU", &programs),
        Row::of("Linux boot by process", over, "s of CPU", &boots),
    ])
}

/// The CPU times of runs that count by process, and that do not.
fn pairs(
    what: &str,
    count: usize,
    machine: impl Fn() -> Machine,
    check: impl Fn(Ended) -> Result<Ended>,
) -> Result<Vec<(f64, f64)>> {
    let progress = Progress::new();
    let run = |processes: &str| {
        let options = ["summary=off", "device=latch@0x300", processes];
        Ok(check(machine().plugin(&options).run()?)?.cpu.as_secs_f64())
    };
    let runs =
        in_turn(count, [&mut || run("processes=on"), &mut || run("processes=off")], |pair| {
            progress.set(&format!("{what}: pair {} of {count}", pair + 1))
        })?;
    Ok(runs.into_iter().map(|[with, without]| (with, without)).collect())
}
