//! `pvio experiment`: measures whether the claim of 2007 holds.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use pvio_cli::experiment::plots;
use pvio_cli::experiment::report::{Plan, measure};
use pvio_cli::machine::Machine;
use pvio_cli::progress::Progress;
use pvio_cli::stats::Snapshot;
use pvio_cli::{dumps, paths, status};

/// Measures the cost of port I/O for a monitor, by trap and by hypercall.
///
/// Runs a small monitor and its guest under the plugin. The guest makes the same accesses, in all 24 forms, by
/// each mechanism: traps, hypercalls and others. The command checks that all mechanisms had the same effects,
/// counts instructions, measures time, and prints conclusions. docs/experiment.md explains the numbers.
#[derive(Args)]
pub struct Arguments {
    /// Make fewer repetitions, and do not boot Linux for the workload
    #[arg(long)]
    quick: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print Markdown
    #[arg(long)]
    markdown: bool,
    /// Take the workload from a dump (stats=FILE) instead of a Linux boot
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,
    /// Draw the results as SVG pictures in this directory
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if a guest fails, or if two mechanisms had different effects.
pub fn run(arguments: &Arguments) -> Result<()> {
    // Before the measurement, so that a bad file or directory is refused at once.
    if let Some(directory) = &arguments.plots {
        plots::make_directory(directory)?;
    }
    let given = arguments.workload.as_ref().map(|path| dumps::load("experiment", path));
    let given = given.transpose()?;
    let qemu = paths::chosen_qemu()?;
    if let Some(limits) = Machine::without_exports(&qemu)? {
        bail!("{limits}");
    }
    let progress = Progress::new();
    let workload = match (given, &arguments.workload, arguments.quick) {
        (Some(dump), Some(path), _) => Some((format!("The workload of {}", path.display()), dump)),
        (_, _, true) => None,
        _ => {
            progress.set("booting Linux to count its port I/O");
            Some(("A Linux boot (qemu-scripts/boot-linux)".to_owned(), boot_linux(&qemu)?))
        }
    };
    let plan = if arguments.quick { Plan::QUICK } else { Plan::FULL };
    let workload = workload.as_ref().map(|(source, dump)| (source.clone(), dump));
    let report = measure(&qemu, plan, workload, |line| progress.set(line))?;
    drop(progress);
    if let Some(directory) = &arguments.plots {
        plots::write(&report, directory)?;
    }
    Ok(status::print(&match arguments.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => report.render(arguments.markdown),
    })?)
}

/// Boots the kernel of `qemu-scripts/boot-linux` and returns its dump.
fn boot_linux(qemu: &Path) -> Result<Snapshot> {
    let ended = Machine::new(qemu)
        .args(paths::linux_arguments(&[])?)
        .plugin(&["summary=off"])
        .run()
        .context("Linux did not boot")?;
    ensure!(
        ended.status.success() && ended.stdout.contains("user space reached"),
        "Linux did not reach user space: {}{}",
        ended.stdout,
        ended.stderr
    );
    Ok(ended.stats()?.clone())
}
