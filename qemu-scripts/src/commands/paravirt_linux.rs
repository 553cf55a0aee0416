//! `pvio paravirt-linux`: boots a kernel with pvio's guest support both ways.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pvio_cli::paravirt_linux::{Guest, compare};
use pvio_cli::progress::Progress;
use pvio_cli::{paths, status};

/// Boots a Linux kernel with pvio's guest support, by instructions and by hypercalls, and compares.
///
/// The same kernel boots with its parameter nopvio and without: accesses by instruction in each stage of the boot,
/// hypercalls, and QEMU's CPU time, also for a disk whose data goes through ports.
#[derive(Args)]
pub struct Arguments {
    /// The directory of the kernel, as qemu-scripts/paravirt-linux builds it
    #[arg(value_name = "DIRECTORY")]
    build: PathBuf,
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print Markdown
    #[arg(long)]
    markdown: bool,
    /// Number of pairs of runs for CPU times
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pairs: u16,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if the guest fails, or if stdout cannot be written.
pub fn run(arguments: &Arguments) -> Result<()> {
    let guest = Guest::new(&arguments.build)?;
    let qemu = paths::chosen_qemu()?;
    let progress = Progress::new();
    let report = compare(&qemu, &guest, arguments.pairs.into(), |line| progress.set(line))?;
    drop(progress);
    Ok(status::print(&match arguments.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => report.render(arguments.markdown),
    })?)
}
