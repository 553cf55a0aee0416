//! `pvio config`: configuration files of the plugin.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use pvio_cli::machine::plugin_argument;
use pvio_cli::{paths, status};

/// Checks a configuration file of the plugin.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Asks the plugin whether a configuration file is right
    ///
    /// QEMU loads the plugin with config=FILE, without a machine. Devices are made and files are opened, but nothing is
    /// written, and QEMU ends.
    #[command(after_help = "\
Exit status:
  0    the file has no mistakes
  1    the plugin refuses it, and a line on stderr says where and why
  2    error: no QEMU, no plugin")]
    Check {
        /// A TOML file, as for the plugin's option config=FILE
        file: PathBuf,
        /// The QEMU to ask; the default is the one that other commands run
        #[arg(long)]
        qemu: Option<PathBuf>,
    },
}

/// Runs the command.
///
/// # Errors
///
/// Fails if QEMU or the plugin is missing, or if QEMU cannot load the plugin.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Action::Check { file, qemu } = &arguments.action;
    let qemu = qemu.clone().map_or_else(paths::chosen_qemu, Ok)?;
    match mistakes(file, &qemu)? {
        None => {
            status::print_bytes(format!("{}: no mistakes\n", file.display()).as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Some(lines) => {
            eprint!("{lines}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Returns what the plugin says of a file; `None` if it has no mistakes. Warnings are printed.
fn mistakes(file: &Path, qemu: &Path) -> Result<Option<String>> {
    let file = file.to_str().context("the file's name is not UTF-8")?;
    let options = [format!("config={file}"), "check=on".to_owned()];
    let output = Command::new(qemu)
        .args(["-machine", "none", "-display", "none", "-nodefaults", "-no-user-config"])
        .arg("-plugin")
        .arg(plugin_argument(&paths::plugin()?, &options))
        .stdin(Stdio::null())
        .output()
        .with_context(|| qemu.display().to_string())?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said = stderr.lines().filter_map(|line| line.strip_prefix("pvio: "));
    let (warnings, mistakes): (Vec<&str>, Vec<&str>) =
        said.partition(|line| line.starts_with("warning: "));
    for warning in warnings {
        eprintln!("config: {warning}");
    }
    match (output.status.success(), &mistakes[..]) {
        (true, _) => Ok(None),
        (false, []) => bail!("{} ended with {}: {stderr}", qemu.display(), output.status),
        (false, lines) => Ok(Some(lines.iter().map(|line| format!("config: {line}\n")).collect())),
    }
}
