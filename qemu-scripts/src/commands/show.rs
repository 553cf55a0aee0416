//! `pvio show`: the tables of a dump.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pvio_cli::stats::render;
use pvio_cli::status;

use super::dump_files::Inputs;

/// Prints the tables of a dump (stats=FILE), or of the sum of several, as QEMU does at exit.
#[derive(Args)]
#[command(after_help = "\
Exit status:
  0    the tables are printed
  2    error: a bad file, a sum that exceeds 64 bits, a full disk
  141  stdout was closed early")]
pub struct Arguments {
    #[command(flatten)]
    inputs: Inputs,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if the dumps cannot be added up, or if stdout cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let sum = arguments.inputs.sum("show")?;
    status::print(&render(&sum, status::has_colour()))?;
    Ok(ExitCode::SUCCESS)
}
