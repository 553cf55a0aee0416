//! `pvio trace`: the events of a trace as text.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use pvio_cli::stats::access_filter::AccessFilter;
use pvio_cli::trace;

/// Prints the events of a trace (trace=FILE), one per line, each followed by its callers.
///
/// The filters are those of the option access-log: PORT, PORT-PORT, in, out, value=N, pc=ADDRESS, symbol=NAME,
/// process=NAME|PID. A dash before a filter excludes what it matches. An access is printed if, for each kind of filter
/// that is given, at least one filter of that kind matches.
#[derive(Args)]
#[command(after_help = "\
If the trace is cut off or damaged, the events before the damage are printed, and a warning says so.

Exit status:
  0    the events are printed
  2    error: a bad file, a bad filter, a full disk
  141  stdout was closed early")]
pub struct Arguments {
    /// The trace
    #[arg(value_name = "TRACE")]
    trace: PathBuf,
    /// Print only accesses that match these filters
    #[arg(value_name = "FILTER", allow_hyphen_values = true)]
    filters: Vec<String>,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if the file is not a trace, if a filter is wrong, or if stdout cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let filters = arguments.filters.iter().flat_map(|filter| filter.split(':'));
    let filter = AccessFilter::parse(filters).context("wrong filter")?;
    let trace = trace::open("trace", &arguments.trace)?;
    trace::print("trace", &arguments.trace, trace, &filter)?;
    Ok(ExitCode::SUCCESS)
}
