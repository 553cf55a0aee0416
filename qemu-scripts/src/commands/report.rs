//! `pvio report`: a dump as one HTML page.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pvio_cli::{dumps, report, status};

/// Makes one HTML page of a dump (stats=FILE), or of the sum of several: the answer, charts, tables.
///
/// The page is whole by itself: it loads nothing, and it is readable without scripts and on paper.
#[derive(Args)]
#[command(after_help = "\
Exit status:
  0    the page is written
  2    cannot report: a bad file, a sum that does not fit in 64 bits, an output that is an input, a full disk
  141  stdout was closed early")]
pub struct Arguments {
    /// The dumps
    #[arg(value_name = "STATS", required = true)]
    dumps: Vec<PathBuf>,
    /// Write the page to FILE, which is never half a file; stdout otherwise
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let sum = dumps::load_sum("report", &arguments.dumps)?;
    let sources: Vec<String> =
        arguments.dumps.iter().map(|path| path.display().to_string()).collect();
    let page = report::render(&sum, &sources);
    match &arguments.output {
        Some(output) => dumps::write(output, page.as_bytes(), &arguments.dumps)?,
        None => status::print(&page)?,
    }
    Ok(ExitCode::SUCCESS)
}
