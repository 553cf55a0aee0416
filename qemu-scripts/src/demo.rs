//! The guest `tests/guests/demo`: one driver, by instructions and by hypercalls.

use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::stats::Tables;
use anyhow::{Context, Result, bail, ensure};
use thousands::Separable;

use crate::guest_test::{Entries, Report, Runner, Selection, Settings, Suite};
use crate::paths;

/// Counts of one run of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverRun {
    /// Executions by form. Unused forms are left out.
    pub instructions: Vec<(String, u64)>,
    /// Number of hypercalls.
    pub calls: u64,
    /// Port accesses, by instruction and by hypercall.
    pub accesses: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// Duration of the fastest run, in cycles of the guest's RDTSC.
    pub cycles: u64,
}

/// The driver's two runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The run of the driver by instructions.
    pub native: DriverRun,
    /// The run of the driver by hypercalls.
    pub paravirt: DriverRun,
}

/// Runs the guest, and checks that its devices saw the same accesses in both runs.
///
/// # Errors
///
/// Fails if the QEMU cannot answer hypercalls, if the guest fails, or if the runs differ.
pub fn compare(qemu: &Path) -> Result<Comparison> {
    let directory = tempfile::tempdir()?;
    let file = |name| directory.path().join(name);
    // A colon within a file's name is doubled.
    let option =
        |start: &str, name| format!("{start}{}", file(name).to_string_lossy().replace(':', "::"));
    let settings = Settings {
        options: vec![
            option("device=uart16550@0x2f8:file=", "uart"),
            option("device=stream@0x300:out=", "stream"),
            "device=latch@0x310".into(),
        ],
        timeout: Some(60),
        ..Settings::default()
    };
    let stop = AtomicBool::new(false);
    let guests = Suite::Paths(vec![paths::guest("driver.bin")?]);
    let guests = Entries::new(&guests, &Selection::default());
    let guest = guests.get(0).context("no guest is selected")?;
    let report = Runner::new(qemu.to_owned(), settings, &stop).run(&guest)?;
    let report = report.context("the guest was stopped")?;
    if let Some(failure) = &report.verdict.failure {
        bail!("the guest failed: {failure}: {:?}{:?}", report.log, report.qemu);
    }
    for name in ["uart", "stream"] {
        let bytes = std::fs::read(file(name))?;
        // The first half came by instructions, the second by hypercalls.
        let (first, second) = bytes.split_at(bytes.len() / 2);
        ensure!(
            !first.is_empty() && first == second,
            "the {name} device got different bytes by hypercall"
        );
    }
    let comparison = Comparison {
        native: driver_run(&report, "native")?,
        paravirt: driver_run(&report, "paravirt")?,
    };
    comparison.check()?;
    Ok(comparison)
}

fn driver_run(report: &Report, name: &str) -> Result<DriverRun> {
    let windows = &report.stats.as_ref().context("QEMU ended without statistics")?.windows;
    let window = windows.iter().find(|window| window.name == name);
    let window = window.with_context(|| format!("the guest began no window {name:?}"))?;
    let Tables { forms, ports, hypercalls, .. } = &window.tables;
    let marker = format!("info: cycles {name}: ");
    let cycles = report.log.iter().find_map(|line| line.0.split_once(&marker)?.1.parse().ok());
    Ok(DriverRun {
        instructions: forms
            .iter()
            .filter(|row| row.executions > 0)
            .map(|row| (row.form.to_string(), row.executions))
            .collect(),
        calls: hypercalls.iter().map(|row| row.count).sum(),
        accesses: ports.iter().map(|row| row.device + row.qemu + row.hypercall).sum(),
        bytes: ports
            .iter()
            .map(|row| {
                (row.device + row.qemu + row.hypercall) * u64::from(row.size.bytes().unwrap_or(0))
            })
            .sum(),
        cycles: cycles.with_context(|| format!("the guest logged no cycles of {name:?}"))?,
    })
}

impl Comparison {
    /// Fails unless both runs made the same accesses, each in its own way.
    fn check(&self) -> Result<()> {
        let (native, paravirt) = (&self.native, &self.paravirt);
        ensure!(native.calls == 0, "the run by instructions made hypercalls: {native:?}");
        ensure!(
            paravirt.instructions.is_empty(),
            "the run by hypercalls executed port instructions: {paravirt:?}"
        );
        let moved = |run: &DriverRun| (run.accesses, run.bytes);
        ensure!(moved(native) == moved(paravirt), "the runs made different accesses: {self:?}");
        Ok(())
    }
}

/// Formats the comparison as a table.
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
        let numbers = |name, count: fn(&DriverRun) -> u64| {
            (name, count(native).separate_with_commas(), count(paravirt).separate_with_commas())
        };
        for (name, a, b) in
            [numbers("port accesses", |run| run.accesses), numbers("bytes moved", |run| run.bytes)]
        {
            row(name, &a, &b)?;
        }
        let ratio = native.cycles as f64 / paravirt.cycles as f64;
        row("cycles, about", &thousands(native.cycles), &thousands(paravirt.cycles))?;
        write!(f, "  same accesses; by hypercalls about {} times as fast", rounded(ratio))
    }
}

/// Rounds cycles up to thousands, because they vary from run to run.
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
    fn table_has_forms_calls_accesses_bytes_and_cycles() {
        let native = DriverRun {
            instructions: vec![("out dx,al".into(), 18), ("rep outsb".into(), 1)],
            calls: 0,
            accesses: 4114,
            bytes: 4114,
            cycles: 812_395,
        };
        let paravirt =
            DriverRun { instructions: vec![], calls: 19, cycles: 37_926, ..native.clone() };
        assert_eq!(
            Comparison { native, paravirt }.to_string(),
            "                         instructions  hypercalls
  out dx,al                        18           0
  rep outsb                         1           0
  hypercalls                        0          19
  port accesses                 4,114       4,114
  bytes moved                   4,114       4,114
  cycles, about               813,000      38,000
  same accesses; by hypercalls about 21 times as fast"
        );
    }
}
