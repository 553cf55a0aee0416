//! One option, from QEMU's command line or from a configuration file.

use super::{OptionError, Place};

/// An option with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Argument {
    pub key: String,
    pub value: String,
    /// Where it is in the configuration file; `None` on the command line.
    pub place: Option<Place>,
}

impl Argument {
    /// Splits `key=value`. QEMU turns a bare `key` into `key=on`, so `on` counts as no value unless
    /// the option has a switch.
    ///
    /// # Errors
    ///
    /// The option has no value, or is unknown.
    pub fn from_command_line(argument: &str) -> Result<Argument, OptionError> {
        let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
        let argument = Argument { key: key.to_owned(), value: value.to_owned(), place: None };
        argument.check().map(|()| argument)
    }

    /// An error with the place of this option, if a file has it.
    pub fn blame(&self, error: OptionError) -> OptionError {
        match self.place.clone() {
            Some(place) => OptionError::InConfig { place, source: Box::new(error) },
            None => error,
        }
    }

    /// Checks that the option is known and has a value.
    ///
    /// # Errors
    ///
    /// It is not so.
    pub fn check(&self) -> Result<(), OptionError> {
        let (key, value) = (&*self.key, &*self.value);
        let has_switch = matches!(key, "summary" | "insns" | "callers" | "processes" | "check");
        let shape = match key {
            "stats" | "access-log" | "trace" | "log" | "config" => "FILE",
            "share" => "DIRECTORY",
            "symbols" => "guest, off, a FILE or a DIRECTORY",
            "hypercall" => "kernel, any or off",
            "summary" | "insns" => "on, off or a FILE",
            "callers" => "on, off or a number of frames",
            "processes" | "check" => "on or off",
            "device" => "KIND@PORT",
            "control" => "PATH",
            "break" => "PORT, such as 0x3f8 or 0x3f8:out:value=0x41",
            "values" => "PORT, such as 0x80 or 0x70-0x71",
            _ => return Err(OptionError::Unknown(key.to_owned())),
        };
        if value.is_empty() || value == "on" && !has_switch {
            return Err(OptionError::Empty(key.to_owned(), shape));
        }
        Ok(())
    }
}
