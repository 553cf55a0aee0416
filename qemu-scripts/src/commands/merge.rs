//! `pvio merge`: the sum of several dumps.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::dump_files::{Inputs, Output};

/// Adds up dumps (stats=FILE) and traces (trace=FILE) of several runs into one dump.
///
/// The sum is a dump as of one run that did everything, so it can be merged again.
#[derive(Args)]
#[command(after_help = "\
Exit status:
  0    the sum is written
  2    error: a bad file, a sum that exceeds 64 bits, an output that is also an input, a full disk
  141  stdout was closed early")]
pub struct Arguments {
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    output: Output,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if the dumps cannot be added up, or if the sum cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let sum = arguments.inputs.sum("merge")?;
    arguments.output.write(&sum.to_json(), &arguments.inputs)?;
    Ok(ExitCode::SUCCESS)
}
