//! The errors of a call: the ABI's statuses as a Rust type.

use core::fmt;

use crate::abi::{Status, status};

/// The reason why a call failed.
///
/// With all but [`Page`](CallError::Page) and [`Declined`](CallError::Declined) the call has done
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallError {
    /// No host has answered.
    Unanswered,
    /// The host leaves the access to the CPU's own instruction.
    Declined,
    /// The host cannot read a page of the text, even after it was touched.
    Page,
    /// This ring may not make hypercalls.
    Denied,
    /// The host knows no such call.
    Unknown,
    /// The memory cannot be a buffer.
    Address,
    /// An operand is out of range, or a field that must be 0 is not.
    Argument,
    /// A line or name is too long, or a name is empty.
    Length,
    /// The window to begin is open, or the one to end is not.
    State,
    /// The host takes no more windows, or dumps.
    Full,
    /// The host failed, for example to write its file.
    Failed,
    /// No file has this name.
    Missing,
    /// The name cannot be that of a file in the host's directory.
    Name,
    /// A file has this name already.
    Exists,
    /// A file would be too large.
    Limit,
    /// An unfinished file is gone, or a file has changed while it was read.
    Stale,
    /// A status that this version of the ABI does not have.
    Other(u8),
}

impl CallError {
    /// Returns the data of an answer.
    ///
    /// # Errors
    ///
    /// Any status but OK, and a call without an answer.
    pub const fn check(status: Status) -> Result<u32, CallError> {
        match status.code() {
            None => Err(CallError::Unanswered),
            Some(status::OK) => Ok(status.data()),
            Some(code) => Err(CallError::of_code(code)),
        }
    }

    /// The error of a status that is not OK.
    pub(crate) const fn of_code(code: u8) -> CallError {
        match code {
            status::DECLINED => CallError::Declined,
            status::PAGE => CallError::Page,
            status::DENIED => CallError::Denied,
            status::UNKNOWN => CallError::Unknown,
            status::ADDRESS => CallError::Address,
            status::ARGUMENT => CallError::Argument,
            status::LENGTH => CallError::Length,
            status::STATE => CallError::State,
            status::FULL => CallError::Full,
            status::FAILED => CallError::Failed,
            status::MISSING => CallError::Missing,
            status::NAME => CallError::Name,
            status::EXISTS => CallError::Exists,
            status::LIMIT => CallError::Limit,
            status::STALE => CallError::Stale,
            code => CallError::Other(code),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            CallError::Unanswered => "no host answers hypercalls here",
            CallError::Declined => "the host leaves this access to the processor",
            CallError::Page => "the host cannot read a page of the text",
            CallError::Denied => "this ring may not make hypercalls",
            CallError::Unknown => "the host knows no such call",
            CallError::Address => "a call cannot use this memory",
            CallError::Argument => "an argument is out of range",
            CallError::Length => "a text is too long, or a name is empty",
            CallError::State => "the window is open already, or is not open",
            CallError::Full => "there are too many windows or dumps",
            CallError::Failed => "the host failed to execute the call",
            CallError::Missing => "no file of the host has this name",
            CallError::Name => "the name cannot be that of a file in the host's directory",
            CallError::Exists => "the host has a file of this name already",
            CallError::Limit => "the file is larger than the host allows",
            CallError::Stale => "the unfinished file is gone, or the file has changed",
            CallError::Other(code) => {
                return write!(formatter, "the host returned the unknown status {code}");
            }
        })
    }
}

impl core::error::Error for CallError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_an_error_and_a_text_of_its_own() {
        assert_eq!(CallError::check(Status(0x8000_0000)), Err(CallError::Unanswered));
        assert_eq!(CallError::check(Status::new(status::OK, 0x12_3456)), Ok(0x12_3456));
        let errors: std::vec::Vec<CallError> = (status::DECLINED..=status::STALE + 1)
            .map(|code| CallError::check(Status::new(code, 7)).unwrap_err())
            .collect();
        let texts: std::collections::HashSet<std::string::String> =
            errors.iter().map(|error| std::format!("{error}")).collect();
        assert_eq!(texts.len(), errors.len());
        assert_eq!(errors.last(), Some(&CallError::Other(16)));
    }
}
