//! The command `pvio`.

mod commands;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    commands::Pvio::parse().command.run()
}
