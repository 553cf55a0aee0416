//! The command `pvio`.

mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::Pvio::parse_arguments().command.run()
}
