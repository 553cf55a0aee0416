//! The plugin's options, `key=value`, as QEMU hands them over.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pvio_guest::abi::DUMPS_MAX;

use crate::access_log::AccessLog;
use crate::bus::DeviceRequest;
use crate::devices::DeviceKind;
use crate::files;
use crate::guest_file::GuestFile;
use crate::hypercalls::{GuestLog, Policy};
use crate::qemu::ApiLevel;
use crate::sections::{Sections, SectionsError};
use crate::stats::{Destination, DestinationError};
use crate::symbols::{Symbols, SymbolsError};
use crate::x86::{PortRange, PortRangeError};

/// An option that cannot be accepted: which, what is wrong with it, what would be right.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    /// There is no option of that name.
    #[error(
        "unknown option {0:?}; there are stats=FILE, summary=on|off|FILE, symbols=FILE[@ADDRESS], \
         device=KIND@PORT[-PORT][:KEY=VALUE...], access-log=FILE[:PORT[-PORT]...], \
         hypercall=kernel|any|off, log=FILE and insns=on|off|FILE[@ADDRESS]"
    )]
    Unknown(String),
    /// It needs a value. (QEMU makes `stats=on` of a mere `stats`.)
    #[error("option {0:?} needs a value; write {0}={1}")]
    Empty(String, &'static str),
    /// It would be written, and read or written by another.
    #[error("{0} is named twice, by {1} and by {2}; name two files")]
    SameFile(PathBuf, String, String),
    /// Its reader could make the guest wait, and QEMU at its end.
    #[error("option \"{0}={1}\": it is a pipe; name a file")]
    Pipe(&'static str, String),
    /// It is neither on nor off, and not meant as a file.
    #[error("option \"summary={0}\": write summary=on, summary=off, or summary=./{0} for a file")]
    NearlySwitch(String),
    /// It may stand once only.
    #[error("option {0:?} is given twice; give it once")]
    Twice(&'static str),
    /// The file cannot be written.
    #[error("option {option:?}: {source}")]
    Destination {
        /// The option as it was given.
        option: String,
        /// What is wrong.
        source: DestinationError,
    },
    /// A device is not written as one.
    #[error(
        "option \"device={0}\": write KIND@PORT or KIND@PORT-PORT, then :KEY=VALUE for settings"
    )]
    DeviceSyntax(String),
    /// A device's setting may stand once only.
    #[error("option \"device={option}\": {key:?} is given twice; give it once")]
    DeviceSettingTwice {
        /// The option's value.
        option: String,
        /// The setting's name.
        key: String,
    },
    /// There is no device of that kind.
    #[error("option \"device={option}\": there is no kind {kind:?}; there are {known}")]
    DeviceKind {
        /// The option's value.
        option: String,
        /// The kind that was named.
        kind: String,
        /// The kinds that there are.
        known: String,
    },
    /// The ports are none.
    #[error("option \"device={option}\": {source}")]
    DeviceRange {
        /// The option's value.
        option: String,
        /// What is wrong.
        source: PortRangeError,
    },
    /// The access log cannot be made.
    #[error("option \"access-log={path}\": it cannot be written: {source}; name a file that can")]
    AccessLog {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// Nobody of that name can be let in.
    #[error(
        "option \"hypercall={0}\": write hypercall=kernel for supervisor code, hypercall=any for \
         code of any ring, which gives user code every port, or hypercall=off"
    )]
    Hypercall(String),
    /// Before QEMU 10.1 only the mailbox can be answered, which user code has none of.
    #[error(
        "option \"hypercall=any\": this QEMU's plugin API is version {0}, in which no plugin can \
         answer user code; use QEMU 10.1 or newer, or hypercall=kernel"
    )]
    CannotAnswerAny(ApiLevel),
    /// Nobody can write to it.
    #[error("option \"log={0}\": there are no hypercalls that could log; {1}")]
    LogWithoutHypercalls(String, &'static str),
    /// The guest's log cannot be made.
    #[error("option \"log={path}\": it cannot be written: {source}; name a file that can")]
    Log {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The ports to log are none.
    #[error("option \"access-log\": {0}")]
    AccessLogPorts(PortRangeError),
    /// The sections cannot be read.
    #[error("option \"insns\": {0}, or write insns=on to count without telling sections apart")]
    Insns(#[from] SectionsError),
    /// The symbols cannot be read.
    #[error("option \"symbols\": {0}")]
    Symbols(#[from] SymbolsError),
}

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
    /// `kinds` are the devices that there are to choose from, `api` is what QEMU lets a plugin do.
    pub fn parse(
        arguments: &[String],
        kinds: &[DeviceKind],
        api: ApiLevel,
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
                    named.add_option(key, &file)?;
                }
                "insns" => {
                    once("insns", &mut insns, value)?;
                    if value != "on" && value != "off" {
                        let file = GuestFile::parse(value).map_err(SectionsError::File)?.path;
                        named.add(format!("option {key:?}"), &file.to_string_lossy(), false)?;
                    }
                }
                "hypercall" => once("hypercall", &mut hypercall, value)?,
                "log" => {
                    once("log", &mut log, value)?;
                    refuse_pipe("log", value)?;
                    named.add_option(key, value)?;
                }
                "symbols" => {
                    let file = GuestFile::parse(value).map_err(SymbolsError::File)?.path;
                    named.add(format!("option {key:?}"), &file.to_string_lossy(), false)?;
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

/// The files that options name.
#[derive(Default)]
struct NamedFiles {
    /// Each with who names it and whether it is written.
    files: Vec<(PathBuf, String, bool)>,
    /// Those that dumps are written beside which the guest asks for, each with its option.
    dumps: Vec<(PathBuf, String)>,
}

impl NamedFiles {
    /// The same file must not be named twice where one of the two writes it.
    fn add(&mut self, by: String, path: &str, written: bool) -> Result<(), OptionError> {
        let Some(path) = files::identity(Path::new(path)) else { return Ok(()) };
        let other = self.files.iter().find(|other| other.0 == path && (other.2 || written));
        let other = other.map(|(_, by, _)| by.clone());
        let dump = || self.dumps.iter().find(|(dumps, _)| is_dump_beside(&path, dumps));
        let other = other.or_else(|| dump().map(|(_, by)| format!("dumps of {by}")));
        if let Some(other) = other {
            return Err(OptionError::SameFile(path, other, by));
        }
        self.files.push((path, by, written));
        Ok(())
    }

    /// The file of an option, which is written.
    fn add_option(&mut self, key: &str, path: &str) -> Result<(), OptionError> {
        self.add(format!("option {key:?}"), path, true)
    }

    /// The file of an option, beside which dumps are written, too.
    fn add_dumps(&mut self, key: &str, path: &str) -> Result<(), OptionError> {
        self.add_option(key, path)?;
        let Some(dumps) = files::identity(Path::new(path)) else { return Ok(()) };
        let by = format!("option {key:?}");
        if let Some((path, other, _)) =
            self.files.iter().find(|(path, ..)| is_dump_beside(path, &dumps))
        {
            let by = format!("dumps of {by}");
            return Err(OptionError::SameFile(path.clone(), other.clone(), by));
        }
        self.dumps.push((dumps, by));
        Ok(())
    }

    fn add_device(&mut self, device: &DeviceRequest) -> Result<(), OptionError> {
        for (key, path) in &device.settings {
            if matches!(&**key, "in" | "out" | "file") {
                self.add(format!("{key:?} of {:?}", device.place), path, key != "in")?;
            }
        }
        Ok(())
    }
}

/// Whether a file is where a dump goes that the guest asks for: `FILE.1` and so on.
fn is_dump_beside(path: &Path, dumps: &Path) -> bool {
    let (path, dumps) = (path.as_os_str().as_bytes(), dumps.as_os_str().as_bytes());
    let number = path.strip_prefix(dumps).and_then(|rest| rest.strip_prefix(b"."));
    number.is_some_and(|number| (1..=DUMPS_MAX).any(|n| n.to_string().as_bytes() == number))
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

fn refuse_pipe(option: &'static str, path: &str) -> Result<(), OptionError> {
    match std::fs::metadata(path).is_ok_and(|there| there.file_type().is_fifo()) {
        true => Err(OptionError::Pipe(option, path.to_owned())),
        false => Ok(()),
    }
}

/// Opens `FILE[:PORT[-PORT]...]`, which has been split; a colon in the file's name is doubled.
fn open_access_log(parts: Vec<String>) -> Result<Arc<AccessLog>, OptionError> {
    let mut parts = parts.into_iter();
    let path = parts.next().unwrap_or_default();
    let ports = parts.map(|part| PortRange::parse(&part, 1)).collect::<Result<_, _>>();
    let ports = ports.map_err(OptionError::AccessLogPorts)?;
    refuse_pipe("access-log", &path)?;
    AccessLog::create(Path::new(&path), ports)
        .map(Arc::new)
        .map_err(|source| OptionError::AccessLog { path, source })
}

fn split_at_single_colons(text: &str) -> Vec<String> {
    // No path or number has a NUL in it, and no option that C passed can.
    text.replace("::", "\0").split(':').map(|part| part.replace('\0', ":")).collect()
}

fn open(key: &str, path: &str) -> Result<Destination, OptionError> {
    Destination::open(Path::new(path))
        .map_err(|source| OptionError::Destination { option: format!("{key}={path}"), source })
}

#[cfg(test)]
mod tests;
