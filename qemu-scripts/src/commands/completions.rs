//! `pvio completions`: scripts with which shells complete pvio's command line.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use pvio_cli::status;

use super::Pvio;

/// Prints a script with which a shell completes the commands and options of pvio.
#[derive(Args)]
#[command(after_help = "\
For bash, in ~/.bashrc:
  source <(pvio completions bash)

Exit status:
  0    the script is printed
  2    error: a full disk
  141  stdout was closed early")]
pub struct Arguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if stdout cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Pvio::command(), "pvio", &mut script);
    status::print_bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}
