//! The options as they are given, one after another, and the files that they name.

use std::path::{Path, PathBuf};

use super::argument::Argument;
use super::named_files::NamedFiles;
use super::{
    AccessesOption, HypercallAccess, InsnsOption, OptionError, Options, Summary, device, share,
};
use crate::access_filter::{AccessFilter, split_at_single_colons};
use crate::breakpoints::{BreakError, Breakpoint};
use crate::devices::{DeviceRequest, Kind, ObserverKind};
use crate::files::OutputFile;
use crate::guest::MOST_FRAMES;
use crate::guest_file::GuestFile;
use crate::listening_socket::ListeningSocket;
use crate::qemu::{ApiLevel, CommandLine};
use crate::stats::Destination;
use crate::x86::PortRange;

/// The options that were given so far. No file is open yet.
pub(super) struct Given<'a> {
    kinds: &'a [Kind],
    api: ApiLevel,
    command_line: &'a CommandLine,
    named: NamedFiles,
    once: Once,
    insns: Option<InsnsOption>,
    callers: Option<Option<usize>>,
    processes: Option<bool>,
    hypercall: Option<HypercallAccess>,
    is_check: Option<bool>,
    symbols: Vec<GuestFile>,
    debug_directories: Vec<PathBuf>,
    devices: Vec<DeviceRequest>,
    observers: Vec<DeviceRequest<ObserverKind>>,
    values: Vec<PortRange>,
    breakpoints: Vec<(Argument, Breakpoint)>,
}

/// The options that may be given only once, and that are used when all are known.
#[derive(Default)]
struct Once {
    stats: Option<Argument>,
    summary: Option<Argument>,
    access_log: Option<Argument>,
    trace: Option<Argument>,
    log: Option<Argument>,
    share: Option<Argument>,
    guest_symbols: Option<Argument>,
    control: Option<Argument>,
}

impl<'a> Given<'a> {
    pub fn new(kinds: &'a [Kind], api: ApiLevel, command_line: &'a CommandLine) -> Given<'a> {
        Given {
            kinds,
            api,
            command_line,
            named: NamedFiles::default(),
            once: Once::default(),
            insns: None,
            callers: None,
            processes: None,
            hypercall: None,
            is_check: None,
            symbols: Vec::new(),
            debug_directories: Vec::new(),
            devices: Vec::new(),
            observers: Vec::new(),
            values: Vec::new(),
            breakpoints: Vec::new(),
        }
    }

    /// Adds an option.
    ///
    /// # Errors
    ///
    /// It is unknown or malformed, given twice, or names a file that another option names.
    pub fn add(&mut self, argument: &Argument) -> Result<(), OptionError> {
        argument.check()?;
        let (key, value) = (&*argument.key, &*argument.value);
        match key {
            "stats" => {
                once("stats", &mut self.once.stats, argument.clone())?;
                self.named.add_dumps(key, value)
            }
            "summary" => {
                once("summary", &mut self.once.summary, argument.clone())?;
                match value {
                    "on" | "off" => Ok(()),
                    "yes" | "no" | "true" | "false" | "ON" | "OFF" => {
                        Err(OptionError::NearlySwitch(value.to_owned()))
                    }
                    _ => self.named.add_dumps(key, value),
                }
            }
            "access-log" => {
                once("access-log", &mut self.once.access_log, argument.clone())?;
                self.named.add_output(key, &split_at_single_colons(value)[0])
            }
            "trace" => {
                once("trace", &mut self.once.trace, argument.clone())?;
                self.named.add_output(key, &split_at_single_colons(value)[0])
            }
            "insns" => {
                let insns = insns_option(value)?;
                if let InsnsOption::BySection(file) = &insns {
                    self.named.add_input(key, &file.path.to_string_lossy())?;
                }
                once("insns", &mut self.insns, insns)
            }
            "callers" => once("callers", &mut self.callers, callers_depth(value)?),
            "processes" => {
                let processes = switch(value);
                let processes =
                    processes.ok_or_else(|| OptionError::Processes(value.to_owned()))?;
                once("processes", &mut self.processes, processes)
            }
            "hypercall" => {
                once("hypercall", &mut self.hypercall, hypercall_access(value, self.api)?)
            }
            "check" => {
                let is_check = switch(value).ok_or_else(|| OptionError::Check(value.to_owned()))?;
                once("check", &mut self.is_check, is_check)
            }
            "break" => {
                let breakpoint = Breakpoint::parse(value)
                    .map_err(|source| OptionError::Break { option: value.to_owned(), source })?;
                self.breakpoints.push((argument.clone(), breakpoint));
                Ok(())
            }
            "control" => {
                once("control", &mut self.once.control, argument.clone())?;
                self.named.add_socket(key, value)
            }
            "log" => {
                once("log", &mut self.once.log, argument.clone())?;
                self.named.add_output(key, value)
            }
            "share" => {
                once("share", &mut self.once.share, argument.clone())?;
                self.named.add_shared_directory(&share::directory(value));
                Ok(())
            }
            "symbols" if matches!(value, "guest" | "off") => {
                once("symbols=guest|off", &mut self.once.guest_symbols, argument.clone())
            }
            "symbols" if Path::new(value).is_dir() => {
                self.debug_directories.push(debug_directory(value, self.command_line)?);
                Ok(())
            }
            "symbols" => {
                let file = GuestFile::parse(value).map_err(OptionError::Symbols)?;
                self.named.add_input(key, &file.path.to_string_lossy())?;
                self.symbols.push(file);
                Ok(())
            }
            "values" => {
                for ports in value.split(':') {
                    let range = PortRange::parse(ports, 1).map_err(|source| {
                        OptionError::Values { option: value.to_owned(), source }
                    })?;
                    self.values.push(range);
                }
                Ok(())
            }
            "device" => {
                let device = device::parse(value, self.kinds)?;
                self.named.add_device(&device)?;
                match device.kind {
                    Kind::Device(kind) => self.devices.push(device.with_kind(kind)),
                    Kind::Observer(kind) => self.observers.push(device.with_kind(kind)),
                }
                Ok(())
            }
            _ => Err(OptionError::Unknown(key.into())),
        }
    }

    /// Checks what depends on several options, and opens the files.
    ///
    /// # Errors
    ///
    /// Options contradict each other, or a file cannot be opened.
    pub fn open(self) -> Result<Options, OptionError> {
        let Once { stats, summary, access_log, trace, log, share, guest_symbols, control } =
            self.once;
        let has_files = !self.symbols.is_empty() || !self.debug_directories.is_empty();
        let guest_symbols = match &guest_symbols {
            None => self.symbols.is_empty(),
            Some(argument) if argument.value == "guest" => true,
            Some(argument) if has_files => {
                return Err(argument.blame(OptionError::SymbolsOffAndFile));
            }
            Some(_) => false,
        };
        let hypercall = self.hypercall.unwrap_or(HypercallAccess::Kernel);
        let log = opened(log, |path| open_log(path, hypercall))?;
        self.named.check_shared_directory()?;
        let command_line = self.command_line;
        let share = opened(share, |value| share::open(value, hypercall, command_line))?;
        let destination = |key: &str, path: &str| {
            Destination::open(Path::new(path), command_line.confined_by).map_err(|source| {
                OptionError::Destination { option: format!("{key}={path}"), source }
            })
        };
        let stats = opened(stats, |path| destination("stats", path))?;
        let summary = opened(summary, |value| match value {
            "on" => Ok(Summary::Stderr),
            "off" => Ok(Summary::Off),
            path => destination("summary", path).map(Summary::File),
        })?;
        let has_symbols = guest_symbols || !self.symbols.is_empty();
        let access_log =
            opened(access_log, |value| open_accesses("access-log", value, has_symbols))?;
        let trace = opened(trace, |value| open_accesses("trace", value, has_symbols))?;
        let needs_symbols =
            self.breakpoints.iter().find(|(_, breakpoint)| breakpoint.needs_symbols());
        if let Some((argument, breakpoint)) = needs_symbols
            && !has_symbols
        {
            let (option, source) = (breakpoint.text().to_owned(), BreakError::NeedsSymbols);
            return Err(argument.blame(OptionError::Break { option, source }));
        }
        // Last: if another option is wrong, no socket is made.
        let control = opened(control, |path| {
            ListeningSocket::open(Path::new(path))
                .map_err(|source| OptionError::Control { path: path.to_owned(), source })
        })?;
        Ok(Options {
            is_check: self.is_check.unwrap_or(false),
            control,
            breakpoints: self.breakpoints.into_iter().map(|(_, breakpoint)| breakpoint).collect(),
            stats,
            summary: summary.unwrap_or(match command_line.logs_plugins {
                true => Summary::QemuLog,
                false => Summary::Stderr,
            }),
            symbols: self.symbols,
            debug_directories: self.debug_directories,
            guest_symbols,
            devices: self.devices,
            observers: self.observers,
            access_log,
            trace,
            hypercall,
            log,
            share,
            insns: self.insns.unwrap_or(InsnsOption::Off),
            callers: self.callers.flatten(),
            values: self.values,
            processes: self.processes.unwrap_or(false),
        })
    }
}

fn once<T>(name: &'static str, option: &mut Option<T>, value: T) -> Result<(), OptionError> {
    match option.replace(value) {
        None => Ok(()),
        Some(_) => Err(OptionError::Twice(name)),
    }
}

/// Opens what an option names, if it is given.
fn opened<T>(
    argument: Option<Argument>,
    open: impl FnOnce(&str) -> Result<T, OptionError>,
) -> Result<Option<T>, OptionError> {
    let open = |argument: Argument| open(&argument.value).map_err(|error| argument.blame(error));
    argument.map(open).transpose()
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
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

fn hypercall_access(value: &str, api: ApiLevel) -> Result<HypercallAccess, OptionError> {
    match value {
        "kernel" => Ok(HypercallAccess::Kernel),
        "any" if api < ApiLevel::WRITES => Err(OptionError::CannotAnswerAny(api)),
        "any" => Ok(HypercallAccess::Any),
        "off" => Ok(HypercallAccess::Off),
        other => Err(OptionError::Hypercall(other.to_owned())),
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
