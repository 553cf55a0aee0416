//! The plugin's options, `key=value`, as QEMU hands them over.

mod error;
mod named_files;

pub use error::OptionError;

use std::path::Path;
use std::sync::Arc;

use crate::access_log::AccessLog;
use crate::bus::DeviceRequest;
use crate::devices::DeviceKind;
use crate::guest_file::GuestFile;
use crate::hypercalls::{GuestLog, Policy};
use crate::qemu::{ApiLevel, CommandLine};
use crate::sections::{Sections, SectionsError};
use crate::stats::Destination;
use crate::symbols::{Symbols, SymbolsError};
use crate::x86::PortRange;

use named_files::NamedFiles;

/// Where the tables for a person go.
#[derive(Debug, Default)]
pub enum Summary {
    /// To stderr.
    #[default]
    Stderr,
    /// Nowhere.
    Off,
    /// To a file.
    File(Destination),
}

/// What the user asked for.
pub struct Options {
    /// Where the JSON dump goes.
    pub stats: Option<Destination>,
    /// Where the tables go.
    pub summary: Summary,
    /// Names for sites.
    pub symbols: Symbols,
    /// The devices to make.
    pub devices: Vec<DeviceRequest>,
    /// Where accesses are logged.
    pub access_log: Option<Arc<AccessLog>>,
    /// Who may make hypercalls; `None` where nobody is heard.
    pub hypercall: Option<Policy>,
    /// Where the guest's lines go.
    pub log: GuestLog,
    /// Instructions of every kind are to be counted, and these sections told apart.
    pub insns: Option<Sections>,
}

impl Options {
    /// Takes the options in, and opens what they name.
    ///
    /// `kinds` are the devices that there are to choose from, `api` is what QEMU lets a plugin do,
    /// `command_line` what it was started with.
    pub fn parse(
        arguments: &[String],
        kinds: &[DeviceKind],
        api: ApiLevel,
        command_line: &CommandLine,
    ) -> Result<Options, OptionError> {
        let (mut stats, mut summary, mut access_log) = (None, None, None);
        let (mut hypercall, mut log, mut insns) = (None, None, None);
        let (mut symbols, mut devices) = (Vec::new(), Vec::new());
        let mut named = NamedFiles::default();
        for argument in arguments {
            let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
            if value.is_empty() || (value == "on" && !matches!(key, "summary" | "insns")) {
                let shape = match key {
                    "stats" | "symbols" | "access-log" | "log" => "FILE",
                    "hypercall" => "kernel, any or off",
                    "summary" | "insns" => "on, off or a FILE",
                    "device" => "KIND@PORT",
                    _ => return Err(OptionError::Unknown(key.into())),
                };
                return Err(OptionError::Empty(key.into(), shape));
            }
            match key {
                "stats" => {
                    once("stats", &mut stats, value)?;
                    named.add_dumps(key, value)?;
                }
                "summary" => {
                    once("summary", &mut summary, value)?;
                    if value != "on" && value != "off" {
                        named.add_dumps(key, value)?;
                    }
                }
                "access-log" => {
                    let parts = split_at_single_colons(value);
                    let file = parts[0].clone();
                    once("access-log", &mut access_log, parts)?;
                    named.add_output(key, &file)?;
                }
                "insns" => {
                    once("insns", &mut insns, value)?;
                    if value != "on" && value != "off" {
                        let file = GuestFile::parse(value).map_err(SectionsError::File)?;
                        named.add_input(key, &file.path.to_string_lossy())?;
                    }
                }
                "hypercall" => once("hypercall", &mut hypercall, value)?,
                "log" => {
                    once("log", &mut log, value)?;
                    named.add_output(key, value)?;
                }
                "symbols" => {
                    let file = GuestFile::parse(value).map_err(SymbolsError::File)?;
                    named.add_input(key, &file.path.to_string_lossy())?;
                    symbols.push(value);
                }
                "device" => {
                    let device = device(value, kinds)?;
                    named.add_device(&device)?;
                    devices.push(device);
                }
                _ => return Err(OptionError::Unknown(key.into())),
            }
        }
        let hypercall = policy(hypercall, api)?;
        // Lines are logged by registers, which cannot be answered before.
        let remedy = match (api < ApiLevel::WRITES, hypercall) {
            (true, _) => Some("use QEMU 10.1 or newer"),
            (false, None) => Some("leave hypercall=off out"),
            (false, Some(_)) => None,
        };
        if let (Some(remedy), Some(path)) = (remedy, log) {
            return Err(OptionError::LogWithoutHypercalls(path.to_owned(), remedy));
        }
        let log = match log {
            None => GuestLog::to_stderr(),
            Some(path) => GuestLog::create(Path::new(path))
                .map_err(|source| OptionError::Log { path: path.to_owned(), source })?,
        };
        let open = |key: &str, path: &str| {
            Destination::open(Path::new(path), command_line.confined_by).map_err(|source| {
                OptionError::Destination { option: format!("{key}={path}"), source }
            })
        };
        let stats = stats.map(|path| open("stats", path)).transpose()?;
        let summary = match summary {
            None | Some("on") => Summary::Stderr,
            Some("off") => Summary::Off,
            Some(word @ ("yes" | "no" | "true" | "false" | "ON" | "OFF")) => {
                return Err(OptionError::NearlySwitch(word.to_owned()));
            }
            Some(path) => Summary::File(open("summary", path)?),
        };
        Ok(Options {
            stats,
            summary,
            symbols: Symbols::load(&symbols)?,
            devices,
            access_log: access_log.map(open_access_log).transpose()?,
            hypercall,
            log,
            insns: match insns {
                None | Some("off") => None,
                Some("on") => Some(Sections::default()),
                Some(file) => Some(Sections::load(file)?),
            },
        })
    }
}

/// Who may make hypercalls, by the option or without it.
fn policy(option: Option<&str>, api: ApiLevel) -> Result<Option<Policy>, OptionError> {
    match option {
        None | Some("kernel") => Ok(Some(Policy::Kernel)),
        Some("any") if api < ApiLevel::WRITES => Err(OptionError::CannotAnswerAny(api)),
        Some("any") => Ok(Some(Policy::Any)),
        Some("off") => Ok(None),
        Some(other) => Err(OptionError::Hypercall(other.to_owned())),
    }
}

fn once<T>(name: &'static str, place: &mut Option<T>, value: T) -> Result<(), OptionError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(OptionError::Twice(name)),
    }
}

/// Reads `KIND@PORT[-PORT][:KEY=VALUE...]`; a colon within a value is doubled.
fn device(text: &str, kinds: &[DeviceKind]) -> Result<DeviceRequest, OptionError> {
    let syntax = || OptionError::DeviceSyntax(text.to_owned());
    let mut parts = split_at_single_colons(text).into_iter();
    let place = parts.next().ok_or_else(syntax)?;
    let (name, range) = place.split_once('@').ok_or_else(syntax)?;
    let kind = kinds.iter().find(|kind| kind.name == name);
    let kind = *kind.ok_or_else(|| OptionError::DeviceKind {
        option: text.to_owned(),
        kind: name.to_owned(),
        known: kinds.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", "),
    })?;
    let range = PortRange::parse(range, kind.ports)
        .map_err(|source| OptionError::DeviceRange { option: text.to_owned(), source })?;
    let mut settings: Vec<(String, String)> = Vec::new();
    for part in parts {
        let (key, value) = part.split_once('=').ok_or_else(syntax)?;
        if settings.iter().any(|(other, _)| other == key) {
            let (option, key) = (text.to_owned(), key.to_owned());
            return Err(OptionError::DeviceSettingTwice { option, key });
        }
        settings.push((key.to_owned(), value.to_owned()));
    }
    Ok(DeviceRequest { kind, range, place, settings })
}

/// Opens `FILE[:PORT[-PORT]...]`, which has been split; a colon in the file's name is doubled.
fn open_access_log(parts: Vec<String>) -> Result<Arc<AccessLog>, OptionError> {
    let mut parts = parts.into_iter();
    let path = parts.next().unwrap_or_default();
    let ports = parts.map(|part| PortRange::parse(&part, 1)).collect::<Result<_, _>>();
    let ports = ports.map_err(OptionError::AccessLogPorts)?;
    AccessLog::create(Path::new(&path), ports)
        .map(Arc::new)
        .map_err(|source| OptionError::AccessLog { path, source })
}

fn split_at_single_colons(text: &str) -> Vec<String> {
    // No path or number has a NUL in it, and no option that C passed can.
    text.replace("::", "\0").split(':').map(|part| part.replace('\0', ":")).collect()
}

#[cfg(test)]
mod tests;
