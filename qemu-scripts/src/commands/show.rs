//! `pvio show`: the tables of a dump.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pvio_cli::stats::{render, render_port};
use pvio_cli::{pager, status};
use pvio_x86::{Port, PortRange};

use super::dump_files::Inputs;

/// Prints the tables of a dump (stats=FILE) or of a trace (trace=FILE), or of the sum of several.
#[derive(Args)]
#[command(after_help = "\
Exit status:
  0    the tables are printed
  2    error: a bad file, a sum that exceeds 64 bits, a full disk
  141  stdout was closed early")]
pub struct Arguments {
    #[command(flatten)]
    inputs: Inputs,
    /// Print the sites that accessed this port, such as 0x61, instead of the tables
    #[arg(long, value_name = "PORT", value_parser = port)]
    port: Option<Port>,
}

fn port(text: &str) -> Result<Port, String> {
    let range = PortRange::parse(text, 1).map_err(|error| error.to_string())?;
    match range.len() {
        1 => Ok(range.first()),
        _ => Err("a range of ports is not supported; name one port, such as 0x61".to_owned()),
    }
}

/// Runs the command.
///
/// # Errors
///
/// Fails if the dumps cannot be added up, or if stdout cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let sum = arguments.inputs.sum("show")?;
    let text = match arguments.port {
        Some(port) => render_port(&sum, port),
        None => render(&sum, status::has_colour()),
    };
    pager::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
