//! Compares two ways of port I/O.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::guest::{Guest, Run};
use super::{Layout, Stage, Times};
use crate::machine::Ended;
use crate::measure::{Ratio, median};
use crate::stats::{Call, QemuRow, Snapshot};
use crate::table::Table;

/// The plugin's counts of a boot.
#[derive(Clone, Debug, Serialize)]
pub struct Counts {
    /// The kernel's line about its port I/O.
    pub line: String,
    /// Accesses by instruction, by stage.
    pub instructions: BTreeMap<Stage, u64>,
    /// Accesses by string instruction of the kernel, which `instructions` has, too.
    pub strings: u64,
    /// Port I/O hypercalls.
    pub hypercalls: u64,
    /// Hypercalls that were declined, denied or wrong.
    pub refused: u64,
}

/// The plugin's counts of a run with the disk, without DMA.
#[derive(Clone, Debug, Serialize)]
pub struct DiskCounts {
    /// Accesses by instruction, firmware left out.
    pub instructions: u64,
    /// Accesses by hypercall.
    pub by_hypercall: u64,
    /// Port I/O hypercalls.
    pub hypercalls: u64,
    /// Hypercalls that were declined, denied or wrong.
    pub refused: u64,
    /// Median of QEMU's CPU time, in seconds.
    pub cpu: Times,
}

/// Two ways, side by side: instructions, then hypercalls.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The kernel's version and architecture.
    pub kernel: String,
    /// The QEMU that ran.
    pub qemu: QemuRow,
    /// A boot to user space, with DMA.
    pub boot: [Counts; 2],
    /// A run that reads and writes a disk without DMA.
    pub disk: [DiskCounts; 2],
    /// CPU time by hypercalls over that by instructions, of pairs of runs.
    pub ratios: BTreeMap<&'static str, Ratio>,
}

pub(super) fn of(
    guest: &Guest,
    [instructions, hypercalls]: [(Run, Run); 2],
    times: &[[Times; 2]],
) -> Result<Report> {
    type Phase = (&'static str, fn(&Times) -> f64);
    let phases: [Phase; 3] = [
        ("boot", |times| times.boot),
        ("read", |times| times.read),
        ("write", |times| times.write),
    ];
    let median_of =
        |way: usize, phase: fn(&Times) -> f64| median(times.iter().map(|pair| phase(&pair[way])));
    let ratio = |phase: fn(&Times) -> f64| {
        let pairs: Vec<(f64, f64)> =
            times.iter().map(|[native, calls]| (phase(calls), phase(native))).collect();
        Ratio::of(&pairs)
    };
    let cpu = |way| {
        let [boot, read, write] = phases.map(|(_, phase)| median_of(way, phase));
        Times { boot, read, write }
    };
    let disk = |run: &Run, way| -> Result<DiskCounts> {
        let stats = run.ended.stats()?;
        let by_stage = by_stage(&guest.layout, stats);
        Ok(DiskCounts {
            instructions: by_stage
                .iter()
                .filter(|(stage, _)| !stage.is_firmware())
                .map(|(_, n)| n)
                .sum(),
            by_hypercall: stats.ports.iter().map(|row| row.hypercall).sum(),
            hypercalls: port_io_calls(stats),
            refused: refused(stats),
            cpu: cpu(way),
        })
    };
    let qemu = instructions.0.ended.stats()?.qemu.clone();
    Ok(Report {
        kernel: guest.name.clone(),
        qemu,
        boot: [guest.counts(&instructions.0)?, guest.counts(&hypercalls.0)?],
        disk: [disk(&instructions.1, 0)?, disk(&hypercalls.1, 1)?],
        ratios: phases.into_iter().map(|(name, phase)| (name, ratio(phase))).collect(),
    })
}

impl Guest {
    /// Returns the accesses by instruction, by stage.
    ///
    /// # Errors
    ///
    /// Fails if the plugin wrote no statistics.
    pub fn instructions(&self, ended: &Ended) -> Result<BTreeMap<Stage, u64>> {
        Ok(by_stage(&self.layout, ended.stats()?))
    }

    /// Returns what the plugin counted in a run.
    ///
    /// # Errors
    ///
    /// Fails if the plugin wrote no statistics, or did not count all code.
    pub fn counts(&self, run: &Run) -> Result<Counts> {
        let stats = run.ended.stats()?;
        ensure!(stats.sites_dropped == 0, "some code is not among the sites");
        Ok(Counts {
            line: run.line.clone(),
            instructions: by_stage(&self.layout, stats),
            strings: kernel_strings(self, stats),
            hypercalls: port_io_calls(stats),
            refused: refused(stats),
        })
    }
}

/// Counts the accesses by instruction, by stage.
pub(crate) fn by_stage(layout: &Layout, stats: &Snapshot) -> BTreeMap<Stage, u64> {
    let mut stages: BTreeMap<Stage, u64> = Stage::ALL.map(|stage| (stage, 0)).into();
    for site in &stats.sites {
        let stage = layout.stage(site.mode, site.address().unwrap_or(0));
        *stages.entry(stage).or_default() += site.counts.accesses;
    }
    stages
}

/// Counts the accesses by string instruction of the kernel.
fn kernel_strings(guest: &Guest, stats: &Snapshot) -> u64 {
    let sites = stats.sites.iter().filter(|site| {
        let is_kernel = guest.layout.stage(site.mode, site.address().unwrap_or(0)) == Stage::Kernel;
        is_kernel && site.form.is_string()
    });
    sites.map(|site| site.counts.accesses).sum()
}

pub(crate) fn port_io_calls(stats: &Snapshot) -> u64 {
    let rows = stats.hypercalls.iter().filter(|row| Call::port_io(row.call).is_some());
    rows.map(|row| row.count).sum()
}

pub(crate) fn refused(stats: &Snapshot) -> u64 {
    stats.hypercalls.iter().map(|row| row.declined + row.denied + row.errors).sum()
}

impl Report {
    /// Formats the tables for a terminal or in Markdown.
    pub fn render(&self, markdown: bool) -> String {
        let format = |table: &Table| if markdown { table.markdown() } else { table.plain() };
        let version = self.qemu.version.as_deref().unwrap_or("of unknown version");
        let mut table = Table::new(["a boot, with DMA", "nopvio", "hypercalls"].map(str::to_owned));
        let row =
            |name: &str, number: &dyn Fn(&Counts) -> u64| side_by_side(name, &self.boot, number);
        for stage in Stage::ALL {
            let name = format!("accesses by instruction: {}", stage.name());
            table.row(row(&name, &|counts| counts.instructions[&stage]));
        }
        table.row(row("strings among those of the kernel", &|counts| counts.strings));
        table.row(row("hypercalls", &|counts| counts.hypercalls));
        table.row(row("hypercalls refused", &|counts| counts.refused));

        let mut disk =
            Table::new(["a disk, without DMA", "nopvio", "hypercalls", "ratio"].map(str::to_owned));
        let row = |name: &str, number: &dyn Fn(&DiskCounts) -> u64| {
            let [name, native, calls] = side_by_side(name, &self.disk, number);
            [name, native, calls, String::new()]
        };
        disk.row(row("accesses by instruction, firmware left out", &|counts| counts.instructions));
        disk.row(row("accesses by hypercall", &|counts| counts.by_hypercall));
        disk.row(row("hypercalls", &|counts| counts.hypercalls));
        disk.row(row("hypercalls refused", &|counts| counts.refused));
        type Phase = (&'static str, &'static str, fn(&Times) -> f64);
        let phases: [Phase; 3] = [
            ("boot", "CPU time to user space, s", |times| times.boot),
            ("read", "CPU time to read 32 MiB, s", |times| times.read),
            ("write", "CPU time to write 32 MiB, s", |times| times.write),
        ];
        for (key, name, phase) in phases {
            let [native, calls] =
                self.disk.each_ref().map(|counts| format!("{:.2}", phase(&counts.cpu)));
            disk.row([name.to_owned(), native, calls, format!("{:.3}", self.ratios[key].median)]);
        }
        let [native, calls] = self.boot.each_ref().map(|counts| &counts.line);
        format!(
            "{}, QEMU {version}\n\n{}\n{}\nnopvio      {native}\nhypercalls  {calls}\n",
            self.kernel,
            format(&table),
            format(&disk)
        )
    }
}

/// The cells of a row: its name, and a number of the counts of each way.
pub(crate) fn side_by_side<T>(
    name: &str,
    counts: &[T; 2],
    number: impl Fn(&T) -> u64,
) -> [String; 3] {
    let [native, calls] = counts.each_ref().map(|counts| with_commas(number(counts)));
    [name.to_owned(), native, calls]
}

fn with_commas(number: u64) -> String {
    use thousands::Separable;
    number.separate_with_commas()
}
