//! The plugin's options: `key=value` arguments, parsed and checked.
//!
//! The result is plain data and open output files. [`crate::build`] hands them to the other modules,
//! none of which knows the options.

mod device;
mod error;
mod help;
mod named_files;
mod share;

pub use error::OptionError;

use std::path::{Path, PathBuf};

use crate::access_filter::{AccessFilter, split_at_single_colons};
use crate::breakpoints::{BreakError, Breakpoint};
use crate::control::ControlSocket;
use crate::devices::{DeviceKind, DeviceRequest};
use crate::files::OutputFile;
use crate::guest::MOST_FRAMES;
use crate::guest_file::GuestFile;
use crate::qemu::{ApiLevel, CommandLine};
use crate::share::Share;
use crate::stats::Destination;
use crate::x86::PortRange;

use named_files::NamedFiles;

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
    pub control: Option<ControlSocket>,
    /// The accesses at which the machine stops.
    pub breakpoints: Vec<Breakpoint>,
}

/// The values, as text, of the options that may be given only once.
#[derive(Default)]
struct Values<'a> {
    stats: Option<&'a str>,
    summary: Option<&'a str>,
    access_log: Option<&'a str>,
    trace: Option<&'a str>,
    hypercall: Option<&'a str>,
    log: Option<&'a str>,
    share: Option<&'a str>,
    insns: Option<&'a str>,
    guest_symbols: Option<&'a str>,
    callers: Option<&'a str>,
    processes: Option<&'a str>,
    control: Option<&'a str>,
}

/// Returns the list of options if the arguments ask for it: `libpvio.so,help`. `kinds` lists the available devices.
pub fn help(arguments: &[String], kinds: &[DeviceKind]) -> Option<String> {
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
        kinds: &[DeviceKind],
        api: ApiLevel,
        command_line: &CommandLine,
    ) -> Result<Options, OptionError> {
        let mut values = Values::default();
        let (mut symbols, mut devices) = (Vec::new(), Vec::new());
        let mut value_ports = Vec::new();
        let mut breakpoints = Vec::new();
        let mut debug_directories = Vec::new();
        let mut insns = InsnsOption::Off;
        let mut named = NamedFiles::default();
        for argument in arguments {
            let (key, value) = split_argument(argument)?;
            match key {
                "stats" => {
                    once("stats", &mut values.stats, value)?;
                    named.add_dumps(key, value)?;
                }
                "summary" => {
                    once("summary", &mut values.summary, value)?;
                    if value != "on" && value != "off" {
                        named.add_dumps(key, value)?;
                    }
                }
                "access-log" => {
                    once("access-log", &mut values.access_log, value)?;
                    named.add_output(key, &split_at_single_colons(value)[0])?;
                }
                "trace" => {
                    once("trace", &mut values.trace, value)?;
                    named.add_output(key, &split_at_single_colons(value)[0])?;
                }
                "insns" => {
                    once("insns", &mut values.insns, value)?;
                    insns = insns_option(value)?;
                    if let InsnsOption::BySection(file) = &insns {
                        named.add_input(key, &file.path.to_string_lossy())?;
                    }
                }
                "callers" => once("callers", &mut values.callers, value)?,
                "processes" => once("processes", &mut values.processes, value)?,
                "hypercall" => once("hypercall", &mut values.hypercall, value)?,
                "break" => {
                    let breakpoint = Breakpoint::parse(value).map_err(|source| {
                        OptionError::Break { option: value.to_owned(), source }
                    })?;
                    breakpoints.push(breakpoint);
                }
                "control" => {
                    once("control", &mut values.control, value)?;
                    named.add_socket(key, value)?;
                }
                "log" => {
                    once("log", &mut values.log, value)?;
                    named.add_output(key, value)?;
                }
                "share" => {
                    once("share", &mut values.share, value)?;
                    named.add_shared_directory(&share::directory(value));
                }
                "symbols" if matches!(value, "guest" | "off") => {
                    once("symbols=guest|off", &mut values.guest_symbols, value)?;
                }
                "symbols" if Path::new(value).is_dir() => {
                    debug_directories.push(debug_directory(value, command_line)?);
                }
                "symbols" => {
                    let file = GuestFile::parse(value).map_err(OptionError::Symbols)?;
                    named.add_input(key, &file.path.to_string_lossy())?;
                    symbols.push(file);
                }
                "values" => {
                    for ports in value.split(':') {
                        let range = PortRange::parse(ports, 1).map_err(|source| {
                            OptionError::Values { option: value.to_owned(), source }
                        })?;
                        value_ports.push(range);
                    }
                }
                "device" => {
                    let device = device::parse(value, kinds)?;
                    named.add_device(&device)?;
                    devices.push(device);
                }
                _ => return Err(OptionError::Unknown(key.into())),
            }
        }
        let guest_symbols = match values.guest_symbols {
            None => symbols.is_empty(),
            Some("guest") => true,
            Some(_) if symbols.is_empty() && debug_directories.is_empty() => false,
            Some(_) => return Err(OptionError::SymbolsOffAndFile),
        };
        let hypercall = hypercall_access(values.hypercall, api)?;
        let log = values.log.map(|path| open_log(path, hypercall)).transpose()?;
        named.check_shared_directory()?;
        let share = values.share.map(|value| share::open(value, hypercall, command_line));
        let share = share.transpose()?;
        let destination = |key: &str, path: &str| {
            Destination::open(Path::new(path), command_line.confined_by).map_err(|source| {
                OptionError::Destination { option: format!("{key}={path}"), source }
            })
        };
        let stats = values.stats.map(|path| destination("stats", path)).transpose()?;
        let summary = match values.summary {
            None if command_line.logs_plugins => Summary::QemuLog,
            None | Some("on") => Summary::Stderr,
            Some("off") => Summary::Off,
            Some(word @ ("yes" | "no" | "true" | "false" | "ON" | "OFF")) => {
                return Err(OptionError::NearlySwitch(word.to_owned()));
            }
            Some(path) => Summary::File(destination("summary", path)?),
        };
        let has_symbols = guest_symbols || !symbols.is_empty();
        let open = |option, value: Option<&str>| {
            value.map(|value| open_accesses(option, value, has_symbols)).transpose()
        };
        let access_log = open("access-log", values.access_log)?;
        let trace = open("trace", values.trace)?;
        let callers = values.callers.map_or(Ok(None), callers_depth)?;
        let processes = match values.processes {
            None | Some("off") => false,
            Some("on") => true,
            Some(other) => return Err(OptionError::Processes(other.to_owned())),
        };
        if let Some(breakpoint) = breakpoints.iter().find(|breakpoint| breakpoint.needs_symbols())
            && !has_symbols
        {
            let (option, source) = (breakpoint.text().to_owned(), BreakError::NeedsSymbols);
            return Err(OptionError::Break { option, source });
        }
        // Last: if another option is wrong, no socket is made.
        let control = values.control.map(|path| {
            ControlSocket::open(Path::new(path))
                .map_err(|source| OptionError::Control { path: path.to_owned(), source })
        });
        Ok(Options {
            control: control.transpose()?,
            breakpoints,
            stats,
            summary,
            symbols,
            debug_directories,
            guest_symbols,
            devices,
            access_log,
            trace,
            hypercall,
            log,
            share,
            insns,
            callers,
            values: value_ports,
            processes,
        })
    }
}

/// Splits `key=value`. QEMU turns a bare `key` into `key=on`, so `on` counts as no value unless
/// the option has a switch.
fn split_argument(argument: &str) -> Result<(&str, &str), OptionError> {
    let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
    if !value.is_empty()
        && (value != "on" || matches!(key, "summary" | "insns" | "callers" | "processes"))
    {
        return Ok((key, value));
    }
    let shape = match key {
        "stats" | "access-log" | "trace" | "log" => "FILE",
        "share" => "DIRECTORY",
        "symbols" => "guest, off, a FILE or a DIRECTORY",
        "hypercall" => "kernel, any or off",
        "summary" | "insns" => "on, off or a FILE",
        "callers" => "on, off or a number of frames",
        "processes" => "on or off",
        "device" => "KIND@PORT",
        "control" => "PATH",
        "break" => "PORT, such as 0x3f8 or 0x3f8:out:value=0x41",
        "values" => "PORT, such as 0x80 or 0x70-0x71",
        _ => return Err(OptionError::Unknown(key.into())),
    };
    Err(OptionError::Empty(key.into(), shape))
}

fn once<T>(name: &'static str, option: &mut Option<T>, value: T) -> Result<(), OptionError> {
    match option.replace(value) {
        None => Ok(()),
        Some(_) => Err(OptionError::Twice(name)),
    }
}

/// Checks a directory of debug files. pvio looks for files in it when it needs them, also at dumps.
fn debug_directory(path: &str, command_line: &CommandLine) -> Result<PathBuf, OptionError> {
    if let Some(option) = command_line.confined_by {
        return Err(OptionError::DebugDirectory(path.to_owned(), option));
    }
    // QEMU may change its directory.
    Ok(std::path::absolute(path).unwrap_or_else(|_| path.into()))
}

fn hypercall_access(value: Option<&str>, api: ApiLevel) -> Result<HypercallAccess, OptionError> {
    match value {
        None | Some("kernel") => Ok(HypercallAccess::Kernel),
        Some("any") if api < ApiLevel::WRITES => Err(OptionError::CannotAnswerAny(api)),
        Some("any") => Ok(HypercallAccess::Any),
        Some("off") => Ok(HypercallAccess::Off),
        Some(other) => Err(OptionError::Hypercall(other.to_owned())),
    }
}

fn callers_depth(value: &str) -> Result<Option<usize>, OptionError> {
    match value {
        "off" => Ok(None),
        "on" => Ok(Some(MOST_FRAMES)),
        depth => match depth.parse() {
            Ok(depth @ 1..=MOST_FRAMES) => Ok(Some(depth)),
            _ => Err(OptionError::Callers(value.to_owned(), MOST_FRAMES)),
        },
    }
}

fn insns_option(value: &str) -> Result<InsnsOption, OptionError> {
    Ok(match value {
        "off" => InsnsOption::Off,
        "on" => InsnsOption::On,
        file => InsnsOption::BySection(GuestFile::parse(file).map_err(OptionError::Insns)?),
    })
}

/// Opens the guest's log, if the options let the guest write to it.
fn open_log(path: &str, hypercall: HypercallAccess) -> Result<OutputFile, OptionError> {
    if hypercall == HypercallAccess::Off {
        return Err(OptionError::LogWithoutHypercalls(path.to_owned()));
    }
    OutputFile::open(Path::new(path))
        .map_err(|source| OptionError::Log { path: path.to_owned(), source })
}

/// Opens `FILE[:FILTER...]`.
fn open_accesses(
    option: &'static str,
    value: &str,
    has_symbols: bool,
) -> Result<AccessesOption, OptionError> {
    let mut parts = split_at_single_colons(value).into_iter();
    let path = parts.next().unwrap_or_default();
    let filters: Vec<String> = parts.collect();
    let filter = AccessFilter::parse(filters.iter().map(String::as_str));
    let filter = filter.map_err(|error| OptionError::Filter(option, error))?;
    if filter.needs_symbols() && !has_symbols {
        return Err(OptionError::FilterNeedsSymbols(option));
    }
    let filter_text = filters.join(":");
    match OutputFile::open(Path::new(&path)) {
        Ok(file) => Ok(AccessesOption { path: path.into(), file, filter, filter_text }),
        Err(source) => Err(OptionError::Accesses { option, path, source }),
    }
}

#[cfg(test)]
mod tests;
