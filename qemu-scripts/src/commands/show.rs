//! `pvio show`: the tables of a dump.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pvio_cli::stats::render;
use pvio_cli::{dumps, status};

/// Prints the tables of a dump (stats=FILE), as QEMU does at its end; of several dumps, those of their sum.
#[derive(Args)]
#[command(after_help = "\
Exit status:
  0    the tables are printed
  2    cannot show: a bad file, a sum that does not fit in 64 bits, a full disk
  141  stdout was closed early")]
pub struct Arguments {
    /// The dumps
    #[arg(value_name = "STATS", required = true)]
    dumps: Vec<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let sum = dumps::load_sum("show", &arguments.dumps)?;
    status::print(&render(&sum, status::has_colour()))?;
    Ok(ExitCode::SUCCESS)
}
