//! The errors of options.

use std::io;
use std::path::PathBuf;

use pvio_stats::nearest::suggestion;

use super::{ConfigError, Place};
use crate::access_filter::FilterError;
use crate::breakpoints::BreakError;
use crate::guest_file::GuestFileError;
use crate::listening_socket::SocketError;
use crate::qemu::ApiLevel;
use crate::stats::DestinationError;
use crate::x86::PortRangeError;

/// An option that pvio rejects. The text names the option, the fault and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    /// No option has this name.
    #[error("unknown option {0:?}{instead}", instead = super::help::instead_of(.0))]
    Unknown(String),
    /// The configuration file is wrong.
    #[error("option \"config={path}\": {source}")]
    Config {
        /// The file.
        path: String,
        /// The fault.
        source: ConfigError,
    },
    /// An option of the configuration file is wrong.
    #[error("{place}: {source}")]
    InConfig {
        /// Where the option is.
        place: Place,
        /// The fault.
        source: Box<OptionError>,
    },
    /// The value of `check=` is not a switch.
    #[error("option \"check={0}\": write check=on or check=off")]
    Check(String),
    /// The option needs a value. QEMU turns a bare `stats` into `stats=on`.
    #[error("option {0:?} needs a value; write {0}={1}")]
    Empty(String, &'static str),
    /// Two options name one file, and at least one of them writes it.
    #[error("{0} is named twice, by {1} and by {2}; name two files")]
    SameFile(PathBuf, String, String),
    /// The option names something that is not a suitable file.
    #[error("{option}: {path} {why}")]
    File {
        /// The option.
        option: String,
        /// The path.
        path: String,
        /// The fault and the remedy.
        why: &'static str,
    },
    /// The value looks like a switch, but is neither `on` nor `off`.
    #[error("option \"summary={0}\": write summary=on, summary=off, or summary=./{0} for a file")]
    NearlySwitch(String),
    /// The option may be given only once.
    #[error("option {0:?} is given twice; give it once")]
    Twice(&'static str),
    /// The dump's file cannot be written.
    #[error("option {option:?}: {source}")]
    Destination {
        /// The option as it was given.
        option: String,
        /// The fault.
        source: DestinationError,
    },
    /// The value is not a device.
    #[error(
        "option \"device={0}\": write KIND@PORT or KIND@PORT-PORT, then :KEY=VALUE for settings"
    )]
    DeviceSyntax(String),
    /// A device's setting may be given only once.
    #[error("option \"device={option}\": {key:?} is given twice; give it once")]
    DeviceSettingTwice {
        /// The option's value.
        option: String,
        /// The setting's name.
        key: String,
    },
    /// No device is of this kind.
    #[error(
        "option \"device={option}\": there is no kind {kind:?}{}; the kinds are {}",
        suggestion(kind, known.iter().copied()),
        known.join(", ")
    )]
    DeviceKind {
        /// The option's value.
        option: String,
        /// The unknown kind.
        kind: String,
        /// The available kinds.
        known: Vec<&'static str>,
    },
    /// The device's ports are invalid.
    #[error("option \"device={option}\": {source}")]
    DeviceRange {
        /// The option's value.
        option: String,
        /// The fault.
        source: PortRangeError,
    },
    /// The file of the access log or of the trace cannot be opened.
    #[error("option \"{option}={path}\": the file cannot be written: {source}; name another file")]
    Accesses {
        /// The option.
        option: &'static str,
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// The value of `hypercall=` is unknown.
    #[error(
        "option \"hypercall={0}\": write hypercall=kernel for supervisor code, hypercall=any for \
         code of any ring, which gives user code every port, or hypercall=off"
    )]
    Hypercall(String),
    /// Before QEMU 10.1 pvio can answer only mailboxes, and user code has none.
    #[error(
        "option \"hypercall=any\": this QEMU's plugin API is version {0}, with which plugins cannot \
         answer hypercalls from user code; use QEMU 10.1 or newer, or hypercall=kernel"
    )]
    CannotAnswerAny(ApiLevel),
    /// No guest code can write to the log.
    #[error("option \"log={0}\": no hypercall can write to the log; remove hypercall=off")]
    LogWithoutHypercalls(String),
    /// The guest's log cannot be opened.
    #[error("option \"log={path}\": the file cannot be written: {source}; name another file")]
    Log {
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// The directory cannot be shared, or a setting is wrong.
    #[error("option \"share={option}\": {why}")]
    Share {
        /// The option's value.
        option: String,
        /// The fault and the remedy.
        why: String,
    },
    /// No guest code can use the directory.
    #[error("option \"share={0}\": no hypercall can use the directory; remove hypercall=off")]
    ShareWithoutHypercalls(String),
    /// An option of QEMU makes it give up access to the directory.
    #[error(
        "option \"share={0}\": QEMU's option {1} takes the directory away while the guest runs; remove one of the two"
    )]
    ShareConfined(String, &'static str),
    /// pvio writes a file in the shared directory.
    #[error(
        "{0} is in the directory of option \"share\", where the guest can read and replace files; name a file elsewhere for {1}"
    )]
    InSharedDirectory(PathBuf, String),
    /// A filter of the access log or of the trace is invalid.
    #[error("option {0:?}: {1}")]
    Filter(&'static str, FilterError),
    /// A filter of the access log or of the trace needs names, and names are turned off.
    #[error(
        "option {0:?}: a filter symbol=NAME needs names, which symbols=off turns off; remove one of the two"
    )]
    FilterNeedsSymbols(&'static str),
    /// The value of `callers=` is not a depth.
    #[error(
        "option \"callers={0}\": write callers=on, callers=off, or the maximum number of frames of a call chain, from 1 to {1}"
    )]
    Callers(String, usize),
    /// The ports of `values=` are invalid.
    #[error("option \"values={option}\": {source}")]
    Values {
        /// The option's value.
        option: String,
        /// The fault.
        source: PortRangeError,
    },
    /// The value of `processes=` is not a switch.
    #[error("option \"processes={0}\": write processes=on or processes=off")]
    Processes(String),
    /// A breakpoint is wrong.
    #[error("option \"break={option}\": {source}")]
    Break {
        /// The option's value.
        option: String,
        /// The fault.
        source: BreakError,
    },
    /// There is no control socket.
    #[error("option \"control={path}\": {source}")]
    Control {
        /// The path.
        path: String,
        /// The fault.
        source: SocketError,
    },
    /// The value of `insns=` is not a valid file name.
    #[error("option \"insns\": {0}, or write insns=on to count without sections")]
    Insns(GuestFileError),
    /// Names are turned off, and a file of names is given.
    #[error(
        "option \"symbols=off\": another symbols option names a file or a directory; remove one of the two"
    )]
    SymbolsOffAndFile,
    /// An option of QEMU makes it give up access to the directory.
    #[error(
        "option \"symbols={0}\": pvio reads debug files in this directory while the guest runs, and QEMU's option {1} prevents \
         that; name the debug file itself"
    )]
    DebugDirectory(String, &'static str),
    /// The value of `symbols=` is not a valid file name.
    #[error("option \"symbols\": {0}")]
    Symbols(GuestFileError),
}
