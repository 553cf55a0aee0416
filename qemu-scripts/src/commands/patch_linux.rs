//! `pvio patch-linux`: puts pvio's guest support into the source of a Linux kernel.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pvio_cli::source_tree::Patched;
use pvio_cli::source_tree::linux::patch;
use pvio_cli::status;

/// Puts pvio's guest support into the source of a Linux kernel.
///
/// Copies the files of guest-shim/linux, and adds single lines to the kernel's own files. If a line that an edit looks
/// for is missing, the command says which, and leaves the source as it is. With CONFIG_PVIO_GUEST the kernel's port I/O
/// then is by hypercalls, unless its parameter nopvio is given.
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
    Ok(status::print(&format!("Linux {version}: {files} files added, {edited} edited\n"))?)
}
