//! The cost of counting every instruction (`insns=on`), in a boot of Linux.

use std::path::Path;

use anyhow::Result;

use super::Row;
use super::linux::booted;
use crate::machine::Machine;
use crate::measure::in_turn;
use crate::paths;
use crate::progress::Progress;

/// Measures the rows, from `count` rounds of boots.
///
/// # Errors
///
/// Fails if Linux does not boot.
pub fn rows(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let boot = paths::linux_arguments(&[])?;
    let linux = || Machine::new(qemu).args(&boot);
    let cpu = |machine: Machine| Ok(booted(machine.run()?)?.cpu.as_secs_f64());
    let progress = Progress::new();
    let boots = in_turn(
        count,
        [
            &mut || cpu(linux().plugin(&["summary=off", "insns=on"])),
            &mut || cpu(linux().plugin(&["summary=off"])),
            &mut || cpu(linux()),
        ],
        |round| {
            progress.set(&format!("Linux boots by instruction: round {} of {count}", round + 1))
        },
    )?;
    drop(progress);
    let row = |over, pair: fn(&[f64; 3]) -> (f64, f64)| {
        let pairs: Vec<_> = boots.iter().map(pair).collect();
        Row::of("Linux boot with every instruction counted", over, "s of CPU", &pairs)
    };
    Ok(vec![
        row("without a plugin", |&[counted, _, none]| (counted, none)).target(1.6),
        row("port I/O counted only", |&[counted, pvio, _]| (counted, pvio)),
    ])
}
