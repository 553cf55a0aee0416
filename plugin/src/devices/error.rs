//! The reasons why a device cannot be built.

use std::error::Error;
use std::io;

use pvio_stats::nearest::suggestion;

/// A device that cannot be built with its settings. The text names the fault and the remedy.
///
/// A device of your own returns [`DeviceError::other`] for faults that have no variant here.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The number of ports is fixed, and the option gives another.
    #[error("this kind always has {0} ports; name only the first")]
    PortCount(u16),
    /// The kind has no setting of this name.
    #[error("this kind has no setting {key:?}{}{}", suggestion(key, known.iter().map(String::as_str)), list(.known))]
    UnknownSetting {
        /// The setting.
        key: String,
        /// The settings of the kind.
        known: Vec<String>,
    },
    /// The setting does not name an interrupt line of the ISA bus.
    #[error("{key}={value} is not an interrupt line of the ISA bus; write 0 to 15")]
    InterruptLine {
        /// The setting.
        key: String,
        /// Its value.
        value: String,
    },
    /// An input file cannot be used while QEMU records or replays the run.
    #[error(
        "{key}={path} cannot be used while QEMU records or replays the run (rr=), because QEMU does not record \
         what a device reads; remove {key}= or rr="
    )]
    Recorded {
        /// The setting.
        key: String,
        /// The file.
        path: String,
    },
    /// An input file cannot be read.
    #[error("{key}={path} cannot be read: {source}")]
    Input {
        /// The setting.
        key: String,
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// An output file cannot be written.
    #[error("{key}={path} cannot be written: {source}")]
    Output {
        /// The setting.
        key: String,
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// Standard output cannot be written, and no file is named.
    #[error("stdout cannot be written: {0}; name a file")]
    Stdout(#[source] io::Error),
    /// Another fault.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

impl DeviceError {
    /// An error with a text or a cause of your own.
    ///
    /// ```
    /// use pvio::devices::DeviceError;
    ///
    /// let error = DeviceError::other("speed=9 is too fast; write 1 to 8");
    /// assert_eq!(error.to_string(), "speed=9 is too fast; write 1 to 8");
    /// ```
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> DeviceError {
        DeviceError::Other(error.into())
    }
}

fn list(known: &[String]) -> String {
    match known {
        [] => "; it has no settings".to_owned(),
        known => format!("; its settings are {}", known.join(", ")),
    }
}
