//! `pvio stats`: the statistics of a trace.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pvio_cli::{dumps, status, trace};

/// Converts a trace (trace=FILE) to a dump, like that of stats=FILE.
///
/// The dump has the tables that the plugin would have counted in the same run, except the values at ports and the
/// instructions of every kind, which a trace does not record. If the trace is filtered or cut off, the dump counts only
/// the events in it, and a warning says so.
#[derive(Args)]
#[command(after_help = "\
Exit status:
  0    the dump is written
  2    error: a bad file, an output that is also an input, a full disk
  141  stdout was closed early")]
pub struct Arguments {
    /// The trace
    #[arg(value_name = "TRACE")]
    trace: PathBuf,
    /// Write to FILE instead of stdout; FILE is replaced in one step
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if the file is not a trace, or if the dump cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let snapshot = trace::load_statistics("stats", &arguments.trace)?;
    let json = snapshot.to_json();
    match &arguments.output {
        Some(path) => dumps::write(path, &json, std::slice::from_ref(&arguments.trace))?,
        None => status::print_bytes(&json)?,
    }
    Ok(ExitCode::SUCCESS)
}
