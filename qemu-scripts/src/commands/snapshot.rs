//! `pvio snapshot`: the statistics of a machine that runs.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use pvio_cli::live::{Connection, find};
use pvio_cli::stats::{Snapshot, render};
use pvio_cli::{dumps, status};
use serde_json::json;

/// Writes the statistics of a machine that runs, as a dump has them at the end.
///
/// The machine goes on: its vCPUs stop for a moment, in which none counts. A guest that hangs does not matter.
#[derive(Args)]
#[command(after_help = "\
SOCKET is the path of the plugin's option control=PATH. Without it, it is $PVIO_CONTROL, or the socket of the only
machine that qemu-scripts/run has started.

Exit status:
  0    the statistics are written
  2    error: no machine, a full disk
  141  stdout was closed early")]
pub struct Arguments {
    /// The control socket of the machine
    socket: Option<PathBuf>,
    /// Print the tables instead of JSON
    #[arg(long)]
    tables: bool,
    /// Write to FILE instead of stdout; FILE is replaced in one step
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if no machine answers, or if the output cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let path = find(arguments.socket.as_deref())?;
    let named = || path.display().to_string();
    let mut answer = Connection::open(&path)?.ask("snapshot", json!({})).with_context(named)?;
    let stats = serde_json::to_vec(&answer["stats"].take())?;
    let snapshot = Snapshot::from_json(&stats).map_err(anyhow::Error::new).with_context(named)?;
    if answer["exact"] != true {
        status::warn(
            "snapshot",
            "this QEMU does not let pvio stop the vCPUs for a moment: what they did just then may be in one table and \
             not in another",
        );
    }
    let has_colour = arguments.output.is_none() && status::has_colour();
    let contents = match arguments.tables {
        true => render(&snapshot, has_colour).into_bytes(),
        false => snapshot.to_json(),
    };
    match &arguments.output {
        Some(path) => dumps::write(path, &contents, &[])?,
        None => status::print_bytes(&contents)?,
    }
    Ok(ExitCode::SUCCESS)
}
