//! `pvio merge`: the sum of several dumps, or of several reports of guest tests.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pvio_cli::guest_test;

use super::dump_files::{Inputs, Output};

/// Adds up dumps (stats=FILE) and traces (trace=FILE) of several runs into one dump.
///
/// The sum is a dump as of one run that did everything, so it can be merged again.
///
/// Reports of guest tests (guest-test --junit) are merged into one report, with the numbers of all.
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
    if arguments.inputs.are_xml()? {
        let report = guest_test::merge_junit(arguments.inputs.paths())?;
        arguments.output.write(&report, &arguments.inputs)?;
        return Ok(ExitCode::SUCCESS);
    }
    let sum = arguments.inputs.sum("merge")?;
    arguments.output.write(&sum.to_json(), &arguments.inputs)?;
    Ok(ExitCode::SUCCESS)
}
