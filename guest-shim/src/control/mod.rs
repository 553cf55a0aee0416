//! Calls that control the host: end the machine, log a line, open a window of the statistics.
//!
//! All are safe, and harmless without a host: each function returns [`CallError::Unanswered`], which a
//! guest may ignore. Texts must be in flat segments, where a pointer is a linear address.
//!
//! ```
//! use pvio_guest::control::{self, Level, Window};
//! use pvio_guest::CallError;
//!
//! fn probe_the_disks() {
//!     // Accesses in this function are also counted in the window "disks".
//!     let _window = Window::begin("disks");
//!     let _ = control::log(Level::Info, "looking for disks");
//! }
//!
//! probe_the_disks();
//! // A process on Linux, without a host: exit returns.
//! assert_eq!(control::exit(0), CallError::Unanswered);
//! ```

mod line;
mod window;

use crate::abi::{self, CallWord, call};
pub use crate::detect::probe;
use crate::error::CallError;
use crate::hypercall;
use crate::touch;
pub use line::Line;
pub use window::Window;

/// The level of a logged line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// An error.
    Error = abi::level::ERROR,
    /// Something that may be an error.
    Warning = abi::level::WARNING,
    /// An event of interest.
    Info = abi::level::INFO,
    /// A detail for debugging.
    Debug = abi::level::DEBUG,
}

/// Ends the machine with this exit status. Returns the reason if it does not end.
pub fn exit(code: u8) -> CallError {
    // SAFETY: the call touches no memory, and this program does not run on.
    let status = unsafe { hypercall::call_plain(CallWord::new(call::EXIT, code, 0)) };
    match CallError::check(status) {
        Err(error) => error,
        // The CPU may run on for a while; this code must not.
        Ok(_) => loop {
            core::hint::spin_loop();
        },
    }
}

/// Logs a line of at most [`LOG_MAX`](abi::LOG_MAX) bytes.
///
/// [`Line`] formats text.
///
/// # Errors
///
/// The host's answer, or [`CallError::Unanswered`] if there is no host.
pub fn log(level: Level, text: &str) -> Result<(), CallError> {
    with_text(call::LOG, level as u8, text)
}

/// Opens a window of the statistics, which counts until [`end`]. [`Window`] is one that closes
/// automatically.
///
/// The name has 1 to [`NAME_MAX`](abi::NAME_MAX) bytes.
///
/// # Errors
///
/// The same as for [`log`].
pub fn begin(name: &str) -> Result<(), CallError> {
    with_text(call::BEGIN, 0, name)
}

/// Closes a window.
///
/// # Errors
///
/// The same as for [`log`].
pub fn end(name: &str) -> Result<(), CallError> {
    with_text(call::END, 0, name)
}

/// Sets all counts to zero, also those of open windows.
///
/// # Errors
///
/// The same as for [`log`].
pub fn reset() -> Result<(), CallError> {
    // SAFETY: the call touches neither memory nor devices.
    CallError::check(unsafe { hypercall::call_plain(CallWord::new(call::RESET, 0, 0)) }).map(drop)
}

/// Writes the statistics so far.
///
/// # Errors
///
/// The same as for [`log`].
pub fn dump() -> Result<(), CallError> {
    // SAFETY: the call touches neither memory nor devices.
    CallError::check(unsafe { hypercall::call_plain(CallWord::new(call::DUMP, 0, 0)) }).map(drop)
}

/// Number of tries for a text on pages that the host cannot check. A page may be unmapped between the touch
/// and the retry, but hardly every time.
const TRIES: u32 = 8;

/// The smallest page, in bytes.
const PAGE: usize = 4096;

fn with_text(call: u8, operand: u8, text: &str) -> Result<(), CallError> {
    let word = CallWord::new(call, operand, 0);
    for _ in 0..TRIES {
        let mut edx = text.as_ptr().expose_provenance();
        let mut ecx = text.len();
        // SAFETY: the call reads the text and no other memory.
        match CallError::check(unsafe { hypercall::call(word, &mut edx, &mut ecx) }) {
            // The host has used no part of the text: retry all of it.
            Err(CallError::Page) => touch_text(text.as_bytes()),
            answer => return answer.map(drop),
        }
    }
    Err(CallError::Page)
}

fn touch_text(text: &[u8]) {
    for byte in text.iter().step_by(PAGE).chain(text.last()) {
        // SAFETY: the byte is part of the text.
        unsafe { touch::for_reading(byte) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_process_are_unanswered() {
        assert_eq!(probe(), Err(CallError::Unanswered));
        assert_eq!(exit(3), CallError::Unanswered);
        assert_eq!(log(Level::Error, "text"), Err(CallError::Unanswered));
        assert_eq!(log(Level::Error, ""), Err(CallError::Unanswered));
        assert_eq!(begin("name"), Err(CallError::Unanswered));
        assert_eq!(end("name"), Err(CallError::Unanswered));
        assert_eq!(reset(), Err(CallError::Unanswered));
        assert_eq!(dump(), Err(CallError::Unanswered));
    }

    #[test]
    fn touch_text_accepts_any_length() {
        touch_text(&[]);
        touch_text(&[1]);
        touch_text(&[0; 3 * PAGE]);
    }
}
