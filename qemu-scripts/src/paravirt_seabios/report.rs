//! Compares two boots of a PC.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::{Firmware, Kernel};
use crate::machine::Ended;
use crate::paravirt_linux::{Stage, by_stage, port_io_calls, refused, side_by_side};
use crate::stats::QemuRow;
use crate::table::Table;

/// The plugin's counts of a boot.
#[derive(Clone, Debug, Serialize)]
pub struct Counts {
    /// Accesses by instruction, by stage.
    pub instructions: BTreeMap<Stage, u64>,
    /// Accesses by hypercall.
    pub by_hypercall: u64,
    /// Port I/O hypercalls.
    pub hypercalls: u64,
    /// Hypercalls that were declined, denied or wrong.
    pub refused: u64,
}

impl Counts {
    /// The counts of a kernel's boot.
    ///
    /// # Errors
    ///
    /// Fails if the plugin wrote no statistics, or did not count all code.
    pub fn of(kernel: &Kernel, ended: &Ended) -> Result<Counts> {
        let stats = ended.stats()?;
        ensure!(stats.sites_dropped == 0, "some code is not among the sites");
        Ok(Counts {
            instructions: by_stage(&kernel.layout, stats),
            by_hypercall: stats.ports.iter().map(|row| row.hypercall).sum(),
            hypercalls: port_io_calls(stats),
            refused: refused(stats),
        })
    }
}

/// Two boots from a disk, side by side: instructions, then hypercalls.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The firmware that was built.
    pub firmware: String,
    /// The kernel.
    pub kernel: String,
    /// The QEMU that ran.
    pub qemu: QemuRow,
    /// The counts.
    pub boot: [Counts; 2],
}

impl Report {
    pub(super) fn of(firmware: &Firmware, kernel: &Kernel, ended: [&Ended; 2]) -> Result<Report> {
        let [instructions, hypercalls] = ended;
        Ok(Report {
            firmware: firmware.name.clone(),
            kernel: kernel.name.clone(),
            qemu: instructions.stats()?.qemu.clone(),
            boot: [Counts::of(kernel, instructions)?, Counts::of(kernel, hypercalls)?],
        })
    }

    /// Formats the table for a terminal or in Markdown.
    pub fn render(&self, markdown: bool) -> String {
        let version = self.qemu.version.as_deref().unwrap_or("of unknown version");
        let columns = ["a boot from disk", "packaged firmware", "firmware on pvio.h"];
        let mut table = Table::new(columns.map(str::to_owned));
        let row =
            |name: &str, number: &dyn Fn(&Counts) -> u64| side_by_side(name, &self.boot, number);
        for stage in Stage::ALL {
            let name = format!("accesses by instruction: {}", stage.name());
            table.row(row(&name, &|counts| counts.instructions[&stage]));
        }
        table.row(row("accesses by hypercall", &|counts| counts.by_hypercall));
        table.row(row("hypercalls", &|counts| counts.hypercalls));
        table.row(row("hypercalls refused", &|counts| counts.refused));
        let table = if markdown { table.markdown() } else { table.plain() };
        format!("{}, {}, QEMU {version}\n\n{table}", self.firmware, self.kernel)
    }
}
