//! The guest `tests/guests/demo`: one driver by instructions and by hypercalls, before and after.

use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::stats::Tables;
use anyhow::{Context, Result, bail, ensure};
use thousands::Separable;

use crate::guest_test::{Guest, Report, Runner};
use crate::paths;

/// One way to run the driver, as it was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// What was executed, by form; only what there was.
    pub instructions: Vec<(String, u64)>,
    /// Hypercalls.
    pub calls: u64,
    /// Accesses to ports, whichever way they came.
    pub accesses: u64,
    /// What these moved.
    pub bytes: u64,
    /// How long the fastest run took.
    pub cycles: u64,
}

/// Both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// By instructions.
    pub native: Way,
    /// By hypercalls.
    pub paravirt: Way,
}

/// Runs the guest on a QEMU that can answer it, and makes sure that the board saw the same of both.
pub fn compare(qemu: &Path) -> Result<Comparison> {
    let directory = tempfile::tempdir()?;
    let file = |name| directory.path().join(name);
    // A colon within a setting is doubled.
    let option =
        |start: &str, name| format!("{start}{}", file(name).to_string_lossy().replace(':', "::"));
    let runner = Runner {
        qemu: qemu.to_owned(),
        options: vec![
            option("device=uart16550@0x2f8:file=", "uart"),
            option("device=stream@0x300:out=", "stream"),
            "device=latch@0x310".into(),
        ],
        arguments: Vec::new(),
        time_limit: Duration::from_secs(60),
        stop: &AtomicBool::new(false),
    };
    let report = runner
        .run(&Guest::open(&paths::guest("driver.bin")?, 1)?)?
        .context("nobody told the guest to stop")?;
    if let Some(failure) = &report.verdict.failure {
        bail!("the guest failed: {failure}: {:?}{}", report.log, report.ended.stderr);
    }
    for name in ["uart", "stream"] {
        let bytes = std::fs::read(file(name))?;
        // They took turns: what came by instructions, then the same by hypercalls.
        let (first, second) = bytes.split_at(bytes.len() / 2);
        ensure!(!first.is_empty() && first == second, "the {name} did not get the same twice");
    }
    let comparison =
        Comparison { native: way(&report, "native")?, paravirt: way(&report, "paravirt")? };
    comparison.check()?;
    Ok(comparison)
}

fn way(report: &Report, name: &str) -> Result<Way> {
    let windows = &report.ended.stats()?.windows;
    let window = windows.iter().find(|window| window.name == name);
    let window = window.with_context(|| format!("the guest counted nothing in {name:?}"))?;
    let Tables { forms, ports, hypercalls, .. } = &window.tables;
    let marker = format!("info: cycles {name}: ");
    let cycles = report.log.iter().find_map(|line| line.0.split_once(&marker)?.1.parse().ok());
    Ok(Way {
        instructions: forms
            .iter()
            .filter(|row| row.executions > 0)
            .map(|row| (row.form.to_string(), row.executions))
            .collect(),
        calls: hypercalls.iter().map(|row| row.count).sum(),
        accesses: ports.iter().map(|row| row.device + row.qemu + row.hypercall).sum(),
        bytes: ports
            .iter()
            .map(|row| (row.device + row.qemu + row.hypercall) * u64::from(row.size.bytes()))
            .sum(),
        cycles: cycles.with_context(|| format!("the guest did not say what {name:?} took"))?,
    })
}

impl Comparison {
    /// Both did the same, each in its own way.
    fn check(&self) -> Result<()> {
        let (native, paravirt) = (&self.native, &self.paravirt);
        ensure!(native.calls == 0, "the driver made hypercalls by its instructions: {native:?}");
        ensure!(paravirt.instructions.is_empty(), "hypercalls were left to it: {paravirt:?}");
        let moved = |way: &Way| (way.accesses, way.bytes);
        ensure!(moved(native) == moved(paravirt), "they moved different things: {self:?}");
        Ok(())
    }
}

/// As a small table.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { native, paravirt } = self;
        let mut row = |name: &str, a: &dyn fmt::Display, b: &dyn fmt::Display| {
            writeln!(f, "  {name:<22} {a:>12}  {b:>10}")
        };
        row("", &"instructions", &"hypercalls")?;
        for (form, executions) in &native.instructions {
            row(form, &executions.separate_with_commas(), &0)?;
        }
        row("hypercalls", &native.calls, &paravirt.calls)?;
        let numbers = |name, figure: fn(&Way) -> u64| {
            (name, figure(native).separate_with_commas(), figure(paravirt).separate_with_commas())
        };
        for (name, a, b) in [
            numbers("accesses to ports", |way| way.accesses),
            numbers("bytes moved", |way| way.bytes),
        ] {
            row(name, &a, &b)?;
        }
        let ratio = native.cycles as f64 / paravirt.cycles as f64;
        row("cycles, about", &thousands(native.cycles), &thousands(paravirt.cycles))?;
        write!(f, "  the same to the board; by hypercalls about {} times as fast", rounded(ratio))
    }
}

/// Cycles vary: no more digits than mean something.
fn thousands(cycles: u64) -> String {
    (cycles.div_ceil(1000) * 1000).separate_with_commas()
}

fn rounded(ratio: f64) -> String {
    match ratio {
        10.0.. => format!("{ratio:.0}"),
        _ => format!("{ratio:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_small() {
        let native = Way {
            instructions: vec![("out dx,al".into(), 18), ("rep outsb".into(), 1)],
            calls: 0,
            accesses: 4114,
            bytes: 4114,
            cycles: 812_395,
        };
        let paravirt = Way { instructions: vec![], calls: 19, cycles: 37_926, ..native.clone() };
        assert_eq!(
            Comparison { native, paravirt }.to_string(),
            "                         instructions  hypercalls
  out dx,al                        18           0
  rep outsb                         1           0
  hypercalls                        0          19
  accesses to ports             4,114       4,114
  bytes moved                   4,114       4,114
  cycles, about               813,000      38,000
  the same to the board; by hypercalls about 21 times as fast"
        );
    }
}
