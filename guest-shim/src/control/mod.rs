//! What a guest can tell the host: to end the machine, to log a line, to count by sections.
//!
//! All of it is safe, and harmless where nobody listens: then each function says so in its result,
//! which a guest that does not care may drop. Texts are taken to be at their linear addresses, as
//! with flat segments.
//!
//! ```
//! use pvio_guest::control::{self, Level, Window};
//! use pvio_guest::CallError;
//!
//! fn probe_the_disks() {
//!     // What happens in here is counted by itself, too, in the window "disks".
//!     let _window = Window::begin("disks");
//!     let _ = control::log(Level::Info, "looking for disks");
//! }
//!
//! probe_the_disks();
//! // A process on Linux, with nobody below it who listens: exit returns.
//! assert_eq!(control::exit(0), CallError::Unheard);
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

/// How much a logged line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Something went wrong.
    Error = abi::level::ERROR,
    /// Something may be wrong.
    Warning = abi::level::WARNING,
    /// Something to know.
    Info = abi::level::INFO,
    /// Something for whoever looks into it.
    Debug = abi::level::DEBUG,
}

/// Ends the machine, with this exit status of the host's. Returns only where it does not end, and says
/// why.
pub fn exit(code: u8) -> CallError {
    // SAFETY: the call touches no memory; nothing of this program runs on that could mind.
    let status = unsafe { hypercall::call_plain(CallWord::new(call::EXIT, code, 0)) };
    match CallError::check(status) {
        Err(error) => error,
        // The processor may run on for a while; this code must not.
        Ok(_) => loop {
            core::hint::spin_loop();
        },
    }
}

/// Logs a line of at most [`LOG_MAX`](abi::LOG_MAX) bytes.
///
/// For text that must be formatted first there is [`Line`].
pub fn log(level: Level, text: &str) -> Result<(), CallError> {
    with_text(call::LOG, level as u8, text)
}

/// Begins a window of the statistics: what is counted until its end is also counted under this name, of
/// at most [`NAME_MAX`](abi::NAME_MAX) bytes. See [`Window`] for one that ends by itself.
pub fn begin(name: &str) -> Result<(), CallError> {
    with_text(call::BEGIN, 0, name)
}

/// Ends a window.
pub fn end(name: &str) -> Result<(), CallError> {
    with_text(call::END, 0, name)
}

/// Sets all counts to zero, also those of open windows.
pub fn reset() -> Result<(), CallError> {
    // SAFETY: the call touches neither memory nor devices.
    CallError::check(unsafe { hypercall::call_plain(CallWord::new(call::RESET, 0, 0)) }).map(drop)
}

/// Has the host write the statistics as they stand.
pub fn dump() -> Result<(), CallError> {
    // SAFETY: the call touches neither memory nor devices.
    CallError::check(unsafe { hypercall::call_plain(CallWord::new(call::DUMP, 0, 0)) }).map(drop)
}

/// How often a text is given to the host whose pages it could not judge. The pages may be taken away
/// again between being touched and the next try, but hardly every time.
const TRIES: u32 = 8;

/// Pages may be larger; they are no smaller.
const PAGE: usize = 4096;

fn with_text(call: u8, operand: u8, text: &str) -> Result<(), CallError> {
    let word = CallWord::new(call, operand, 0);
    for _ in 0..TRIES {
        let mut edx = text.as_ptr().expose_provenance();
        let mut ecx = text.len();
        // SAFETY: the call reads the text and no other memory.
        match CallError::check(unsafe { hypercall::call(word, &mut edx, &mut ecx) }) {
            // Nothing of a text is done before all of it can be read: from its beginning again.
            Err(CallError::Page) => touch_text(text.as_bytes()),
            answer => return answer.map(drop),
        }
    }
    Err(CallError::Page)
}

fn touch_text(text: &[u8]) {
    for byte in text.iter().step_by(PAGE).chain(text.last()) {
        // SAFETY: it is one of the text's.
        unsafe { touch::for_reading(byte) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_listens_to_a_process() {
        assert_eq!(probe(), Err(CallError::Unheard));
        assert_eq!(exit(3), CallError::Unheard);
        assert_eq!(log(Level::Error, "text"), Err(CallError::Unheard));
        assert_eq!(log(Level::Error, ""), Err(CallError::Unheard));
        assert_eq!(begin("name"), Err(CallError::Unheard));
        assert_eq!(end("name"), Err(CallError::Unheard));
        assert_eq!(reset(), Err(CallError::Unheard));
        assert_eq!(dump(), Err(CallError::Unheard));
    }

    #[test]
    fn texts_of_any_length_can_be_touched() {
        touch_text(&[]);
        touch_text(&[1]);
        touch_text(&[0; 3 * PAGE]);
    }
}
