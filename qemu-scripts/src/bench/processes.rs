//! The cost of counting by process: for a Linux program that uses ports, and for a boot of Linux.

use std::path::Path;

use anyhow::{Result, ensure};

use super::Row;
use super::linux::booted;
use crate::linux::LinuxGuest;
use crate::machine::{Ended, Machine};
use crate::measure::in_turn;
use crate::paths;
use crate::progress::Progress;

/// Number of `out` instructions that the program executes, and of `in` instructions.
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
    let over = "without processes";
    Ok(vec![
        Row::of("a million in and out of a program, with processes", over, "s of CPU", &programs),
        Row::of("Linux boot with processes", over, "s of CPU", &boots),
    ])
}

/// Measures the CPU time of runs that count by process and of runs that do not, in seconds.
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
