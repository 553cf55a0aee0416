//! `pvio merge`: many dumps as one.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pvio_cli::{dumps, status};

/// Adds up dumps (stats=FILE) of several runs: the result is one dump, as if one run had done it all.
///
/// Parts may be merged first, and the results again.
#[derive(Args)]
#[command(after_help = "\
Exit status:
  0    the sum is written
  2    cannot merge: a bad file, a sum that does not fit in 64 bits, an output that is an input, a full disk
  141  stdout was closed early")]
pub struct Arguments {
    /// The dumps
    #[arg(value_name = "STATS", required = true)]
    dumps: Vec<PathBuf>,
    /// Write the sum to FILE, which is never half a file; stdout otherwise
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let sum = dumps::load_sum("merge", &arguments.dumps)?.to_json();
    match &arguments.output {
        Some(output) => dumps::write(output, &sum, &arguments.dumps)?,
        None => status::print_bytes(&sum)?,
    }
    Ok(ExitCode::SUCCESS)
}
