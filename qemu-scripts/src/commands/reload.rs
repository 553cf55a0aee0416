//! `pvio reload`: a device of a machine that runs reads its script again.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use pvio_cli::live::{Connection, find};
use serde_json::json;

/// Has a device of a machine that runs read its script again.
///
/// The device starts as after a reset of the machine. If the script has a mistake, its place is said, and the device goes
/// on with the script that it has.
#[derive(Args)]
#[command(after_help = "\
SOCKET is the path of the plugin's option control=PATH. Without it, it is $PVIO_CONTROL, or the socket of the only
machine that qemu-scripts/run has started.

Exit status:
  0    the device runs the new script
  2    error: no machine, no script device at the port, a mistake in the script")]
pub struct Arguments {
    /// A port of the device, such as 0x378
    port: String,
    /// The control socket of the machine
    socket: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if no machine answers, or if the device cannot do it.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let path = find(arguments.socket.as_deref())?;
    let request = json!({ "port": arguments.port });
    Connection::open(&path)?.ask("reload", request).with_context(|| path.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
