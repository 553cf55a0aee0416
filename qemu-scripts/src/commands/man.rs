//! `pvio man`: the manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};

use super::Pvio;

/// Writes the manual pages of pvio and of its commands to a directory.
///
/// The pages have the text of --help. To read one, run man DIRECTORY/pvio-show.1
#[derive(Args)]
#[command(after_help = "\
Exit status:
  0    the pages are written
  2    error: the directory does not exist or cannot be written")]
pub struct Arguments {
    /// An existing directory, such as /usr/local/share/man/man1; older pages in it are replaced
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if a page cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let directory = &arguments.directory;
    clap_mangen::generate_to(Pvio::command(), directory)
        .with_context(|| format!("cannot write pages to {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
