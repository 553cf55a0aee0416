//! What can be wrong with options.

use std::io;
use std::path::PathBuf;

use crate::qemu::ApiLevel;
use crate::sections::SectionsError;
use crate::stats::DestinationError;
use crate::symbols::SymbolsError;
use crate::x86::PortRangeError;

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
    /// It names what may not be named.
    #[error("{by}: {path} {why}")]
    File {
        /// The option.
        by: String,
        /// What it names.
        path: String,
        /// What is wrong with it, and what would be right.
        why: &'static str,
    },
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
