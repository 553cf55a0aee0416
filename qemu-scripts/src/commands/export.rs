//! `pvio export`: converts a dump or a trace for other programs.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use pvio_cli::dumps;
use pvio_cli::export::{Format, Request, export};
use pvio_cli::status::StdoutError;

/// Converts a dump (stats=FILE) or a trace (trace=FILE) to a format for other programs.
#[derive(Args)]
#[command(after_help = "\
Tables of a dump: forms, ports, sites, accesses, callers, processes, hypercalls, vcpus, sections, values, windows. A trace
also has the table events, which is the default. Its other tables are those of its statistics.

Exit status:
  0    the output is written
  2    error: a bad file, no such table, an output that is also an input, a full disk
  141  stdout was closed early")]
pub struct Arguments {
    /// A dump or a trace
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// Format of the output
    #[arg(short, long, value_enum)]
    format: Format,
    /// Table to write, with csv, jsonl and parquet
    #[arg(short, long, value_name = "NAME")]
    table: Option<String>,
    /// Use the tables of this window instead of those of the whole run
    #[arg(short, long, value_name = "NAME")]
    window: Option<String>,
    /// Write to FILE instead of stdout; FILE is replaced in one step
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if the input does not have the requested table or window, or if the output cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { input, format, table, window, output } = arguments;
    let request = Request { format: *format, table: table.clone(), window: window.clone() };
    ensure!(
        window.is_none() || (*format != Format::Perfetto && table.as_deref() != Some("events")),
        "--window {}: the events of a trace cannot be limited to a window; remove --window, or name another table",
        window.as_deref().unwrap_or_default()
    );
    match output {
        Some(path) => {
            dumps::write_with(path, std::slice::from_ref(input), |out| {
                export(input, &request, out)
            })?;
        }
        None => {
            dumps::write_buffered(io::stdout().lock(), |out| export(input, &request, out))
                .map_err(StdoutError::from)??;
        }
    }
    Ok(ExitCode::SUCCESS)
}
