//! `pvio experiment`: the question of 2007, measured.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use pvio_cli::experiment::report::{Plan, carry_out};
use pvio_cli::machine::Machine;
use pvio_cli::progress::Progress;
use pvio_cli::{paths, status};

/// What an operation of port I/O costs a monitor: by trap and decode, and by hypercall.
///
/// Runs a small monitor and its guest under the plugin: the same operations by each way from the one to the
/// other, all 24 forms. Checks that every way did the same, counts the instructions that it took, times it,
/// and says what follows. docs/experiment.md explains the figures.
#[derive(Args)]
pub struct Arguments {
    /// Few repetitions, and no Linux boot for the workload
    #[arg(long)]
    quick: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print Markdown
    #[arg(long)]
    markdown: bool,
    /// A dump of pvio's (stats=FILE) whose port I/O is the workload, in the place of a Linux boot
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let qemu = paths::chosen_qemu()?;
    let progress = Progress::new();
    let directory = tempfile::tempdir()?;
    let workload = match (&arguments.workload, arguments.quick) {
        (Some(path), _) => Some((format!("The workload of {}", path.display()), path.clone())),
        (None, true) => None,
        (None, false) => {
            progress.set("booting Linux, to see what it does with its ports");
            let path = directory.path().join("linux.json");
            boot_linux(&qemu, &path)?;
            Some(("A Linux boot (qemu-scripts/boot-linux)".to_owned(), path))
        }
    };
    let plan = if arguments.quick { Plan::QUICK } else { Plan::FULL };
    let workload = workload.as_ref().map(|(source, path)| (source.clone(), path.as_path()));
    let report = carry_out(&qemu, plan, workload, |line| progress.set(line))?;
    drop(progress);
    Ok(status::print(&match arguments.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => report.render(arguments.markdown)?,
    })?)
}

/// Boots what `qemu-scripts/boot-linux` boots, and leaves a dump.
fn boot_linux(qemu: &Path, dump: &Path) -> Result<()> {
    let ended = Machine::new(qemu)
        .args(paths::linux_arguments(&[])?)
        .plugin(&["summary=off", &format!("stats={}", dump.display())])
        .run()
        .context("Linux did not boot")?;
    ensure!(
        ended.status.success() && ended.stdout.contains("user space reached"),
        "Linux did not come to user space: {}{}",
        ended.stdout,
        ended.stderr
    );
    Ok(())
}
