//! The plugin's options: `key=value` arguments, parsed and checked.
//!
//! The result is plain data and open output files. [`crate::build`] hands them to the other modules,
//! none of which knows the options.

mod argument;
mod config;
mod device;
mod error;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod given;
mod help;
mod named_files;
mod share;

pub use config::ConfigError;
pub use error::OptionError;
pub use pvio_stats::toml_file::Place;

use std::path::PathBuf;

use crate::access_filter::AccessFilter;
use crate::breakpoints::Breakpoint;
use crate::devices::{DeviceRequest, Kind, ObserverKind};
use crate::files::OutputFile;
use crate::guest_file::GuestFile;
use crate::listening_socket::ListeningSocket;
use crate::qemu::{ApiLevel, CommandLine};
use crate::share::Share;
use crate::stats::Destination;
use crate::x86::PortRange;

use argument::Argument;
use given::Given;

/// The destination of the text tables, from `summary=`.
#[derive(Debug, Default)]
pub enum Summary {
    /// To stderr.
    #[default]
    Stderr,
    /// To QEMU's log, where `-d plugin` asks for the output of plugins.
    QemuLog,
    /// Nowhere.
    Off,
    /// To a file.
    File(Destination),
}

/// The code that may make hypercalls, from `hypercall=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HypercallAccess {
    /// Supervisor code.
    Kernel,
    /// Code of any ring.
    Any,
    /// None.
    Off,
}

/// The instructions that are counted besides port I/O, from `insns=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsnsOption {
    /// None.
    Off,
    /// All, in one count.
    On,
    /// All, by the executable sections of this ELF file.
    BySection(GuestFile),
}

/// The access log, from `access-log=`, or the trace, from `trace=`.
#[derive(Debug)]
pub struct AccessesOption {
    /// The file's name, for messages.
    pub path: PathBuf,
    /// The file.
    pub file: OutputFile,
    /// The accesses to record.
    pub filter: AccessFilter,
    /// The filters as they were given, with colons between them.
    pub filter_text: String,
}

/// All options, parsed.
#[derive(Debug)]
pub struct Options {
    /// True if QEMU is to end when all options are checked, instead of running a machine.
    pub is_check: bool,
    /// Destination of the JSON dump.
    pub stats: Option<Destination>,
    /// Destination of the text tables.
    pub summary: Summary,
    /// Symbol files, in the order given.
    pub symbols: Vec<GuestFile>,
    /// Directories of separate debug files, in the order given.
    pub debug_directories: Vec<PathBuf>,
    /// True if the guest's own kernel names the sites that no file names.
    pub guest_symbols: bool,
    /// The devices to make.
    pub devices: Vec<DeviceRequest>,
    /// The observers to make.
    pub observers: Vec<DeviceRequest<ObserverKind>>,
    /// The access log.
    pub access_log: Option<AccessesOption>,
    /// The trace.
    pub trace: Option<AccessesOption>,
    /// The callers that may make hypercalls.
    pub hypercall: HypercallAccess,
    /// The file of the guest's log; `None` means stderr.
    pub log: Option<OutputFile>,
    /// The directory that the guest shares.
    pub share: Option<Share>,
    /// The way to count instructions of every kind, if they are counted.
    pub insns: InsnsOption,
    /// Maximum number of frames of a call chain; `None` if call chains are not counted.
    pub callers: Option<usize>,
    /// True if accesses are counted by process.
    pub processes: bool,
    /// The ports whose values are counted.
    pub values: Vec<PortRange>,
    /// The socket for requests while the machine runs.
    pub control: Option<ListeningSocket>,
    /// The accesses at which the machine stops.
    pub breakpoints: Vec<Breakpoint>,
}

/// Returns the list of options if the arguments ask for it: `libpvio.so,help`. `kinds` lists the available devices.
pub fn help(arguments: &[String], kinds: &[Kind]) -> Option<String> {
    // QEMU turns a bare `help` into `help=on`.
    let asks = |argument: &String| matches!(argument.as_str(), "help" | "help=on");
    arguments.iter().any(asks).then(|| help::text(kinds))
}

impl Options {
    /// Parses the options and opens the output files.
    ///
    /// `kinds` lists the available devices, `api` is QEMU's plugin API level, and `command_line`
    /// describes how QEMU was started.
    ///
    /// # Errors
    ///
    /// An option is unknown, malformed, given twice or in conflict with another, or its file
    /// cannot be opened.
    pub fn parse(
        arguments: &[String],
        kinds: &[Kind],
        api: ApiLevel,
        command_line: &CommandLine,
    ) -> Result<Options, OptionError> {
        let mut given = Given::new(kinds, api, command_line);
        for argument in all_arguments(arguments, kinds)? {
            given.add(&argument).map_err(|error| argument.blame(error))?;
        }
        given.open()
    }
}

/// The options of the command line, and those of the file that `config=` names there.
fn all_arguments(arguments: &[String], kinds: &[Kind]) -> Result<Vec<Argument>, OptionError> {
    let mut command_line = Vec::with_capacity(arguments.len());
    let mut config: Option<String> = None;
    for argument in arguments {
        let argument = Argument::from_command_line(argument)?;
        if argument.key != "config" {
            command_line.push(argument);
        } else if config.replace(argument.value).is_some() {
            return Err(OptionError::Twice("config"));
        }
    }
    let Some(path) = config else { return Ok(command_line) };
    let file =
        config::read(&path).map_err(|source| OptionError::Config { path: path.clone(), source })?;
    Ok(config::merge(file, command_line, kinds))
}

#[cfg(test)]
mod tests;
