//! The reasons why the plugin cannot do what the options request.

use crate::breakpoints::BreakError;
use crate::bus::BusError;
use crate::observers::ObserverError;
use crate::options::OptionError;
use crate::qemu::{MachineError, MissingFunction};
use crate::sections::SectionsError;
use crate::symbols::SymbolsError;
use crate::untrusted_text::escape;

/// The reason why the plugin cannot do what the options request. The text is one line.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An option is wrong.
    #[error("{}", one_line(.0))]
    Option(#[from] OptionError),
    /// The symbols cannot be read.
    #[error("option \"symbols\": {}", one_line(.0))]
    Symbols(#[from] SymbolsError),
    /// The sections cannot be read.
    #[error("option \"insns\": {}, or write insns=on to count without sections", one_line(.0))]
    Sections(#[from] SectionsError),
    /// A device cannot be placed on the bus.
    #[error("option \"device\": {}", one_line(.0))]
    Bus(#[from] BusError),
    /// An observer cannot be built.
    #[error("option \"device\": {}", one_line(.0))]
    Observer(#[from] ObserverError),
    /// Plugins cannot serve ports on this QEMU.
    #[error("option \"device\": {0}")]
    Machine(#[from] MachineError),
    /// This QEMU does not export what call chains need.
    #[error(
        "option \"callers\": this QEMU does not let plugins read the guest's memory and registers in place, which \
         call chains need; use a distribution's QEMU 10.0 to 11.1, or remove the option"
    )]
    Callers,
    /// This QEMU does not export what finding processes needs.
    #[error(
        "option {0:?}: this QEMU does not let plugins read the guest's memory and registers in place, which \
         finding processes needs; use a distribution's QEMU 10.0 to 11.1, or remove the option"
    )]
    Processes(&'static str),
    /// This QEMU does not let plugins stop a vCPU after an instruction.
    #[error(
        "option \"break\": this QEMU does not let plugins stop the machine after an instruction; use a distribution's \
         QEMU 10.0 to 11.1, or leave the option out"
    )]
    Break,
    /// A breakpoint cannot be set.
    #[error("option \"break\": {}", one_line(.0))]
    Breakpoint(#[from] BreakError),
    /// The control socket cannot be served.
    #[error("option \"control\": the socket cannot be served: {0}")]
    Control(std::io::Error),
    /// This QEMU lacks the functions that count instructions.
    #[error("option \"insns\": {0}")]
    Instructions(#[from] MissingFunction),
}

/// The text of an error that quotes an option or the name of a file. These may have any characters.
fn one_line(error: &impl std::fmt::Display) -> String {
    escape(error.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_line_whatever_an_option_has() {
        let error = OptionError::Unknown("a\nb\u{1b}[2J".to_owned());
        let text = BuildError::from(error).to_string();
        assert!(!text.chars().any(char::is_control) && text.contains("a\\nb"), "{text}");
    }
}
