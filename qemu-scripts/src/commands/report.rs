//! `pvio report`: a dump or a trace as one HTML page.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pvio_cli::{report, trace};

use super::dump_files::{Inputs, Output};

/// Makes one HTML page of a dump (stats=FILE) or of a trace (trace=FILE), or of the sum of several.
///
/// The page has a headline, charts and tables. It loads no other files, and is readable without scripts and on paper.
/// The page of a single trace also has charts of accesses and values over time.
#[derive(Args)]
#[command(after_help = "\
Exit status:
  0    the page is written
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
/// Fails if the dumps cannot be added up, or if the page cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let (sum, timeline) = match arguments.inputs.only_trace() {
        Some(path) => {
            let (sum, timeline) = trace::load_timeline("report", path)?;
            (sum, Some(timeline))
        }
        None => (arguments.inputs.sum("report")?, None),
    };
    let page = report::render(&sum, timeline.as_ref(), &arguments.inputs.names());
    arguments.output.write(page.as_bytes(), &arguments.inputs)?;
    Ok(ExitCode::SUCCESS)
}
