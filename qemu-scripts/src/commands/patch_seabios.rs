//! `pvio patch-seabios`: puts pvio's guest support into the source of SeaBIOS.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pvio_cli::source_tree::Patched;
use pvio_cli::source_tree::seabios::patch;
use pvio_cli::status;

/// Puts pvio's guest support into the source of SeaBIOS.
///
/// Copies pvio.h and the files of guest-shim/seabios, and edits single lines of SeaBIOS's own files. If a line that an
/// edit looks for is missing, the command says which, and leaves the source as it is. The port I/O of the BIOS and of
/// its VGA BIOS then is by hypercalls if a host answers, and by instructions otherwise.
#[derive(Args)]
pub struct Arguments {
    /// The directory of the source
    #[arg(value_name = "DIRECTORY")]
    tree: PathBuf,
}

/// Runs the command.
///
/// # Errors
///
/// The same as for [`patch`].
pub fn run(arguments: &Arguments) -> Result<()> {
    let Patched { version, files, edited } = patch(&arguments.tree)?;
    Ok(status::print(&format!("SeaBIOS {version}: {files} files added, {edited} edited\n"))?)
}
