//! `pvio paravirt-seabios`: boots a PC by the packaged SeaBIOS and by one built on pvio.h.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pvio_cli::paravirt_seabios::{Firmware, Kernel, compare};
use pvio_cli::progress::Progress;
use pvio_cli::{paths, status};

/// Boots Linux from a disk, by the packaged SeaBIOS and by one that is built on pvio.h, and compares.
///
/// The table has the accesses by instruction in each stage of the boot, and the hypercalls. The kernel is Debian's, or
/// one with pvio's guest support.
#[derive(Args)]
pub struct Arguments {
    /// The directory of the firmware, as qemu-scripts/paravirt-seabios builds it
    #[arg(value_name = "DIRECTORY")]
    build: PathBuf,
    /// Boot the kernel in this directory, as qemu-scripts/paravirt-linux builds it
    #[arg(long, value_name = "DIRECTORY")]
    linux: Option<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print Markdown
    #[arg(long)]
    markdown: bool,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if the machine does not boot, or if stdout cannot be written.
pub fn run(arguments: &Arguments) -> Result<()> {
    let firmware = Firmware::new(&arguments.build)?;
    let kernel = match &arguments.linux {
        Some(build) => Kernel::paravirt(build)?,
        None => Kernel::of_the_distribution()?,
    };
    let qemu = paths::chosen_qemu()?;
    let progress = Progress::new();
    let report = compare(&qemu, &firmware, &kernel, |line| progress.set(line))?;
    drop(progress);
    Ok(status::print(&match arguments.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => report.render(arguments.markdown),
    })?)
}
