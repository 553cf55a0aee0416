//! EAX before and after a call.

use super::list::{CALL_SHIFT, DATA_MASK, OPERAND_SHIFT, UNANSWERED, status};

/// A call: EAX before the instruction, or the word of a mailbox.
///
/// | bits | |
/// | --- | --- |
/// | 31 | 1 |
/// | 24-30 | the number of the call, see [`call`](super::call) |
/// | 16-23 | the operand: the byte that `outb` writes, an exit status, a level; else 0 |
/// | 0-15 | the port of port I/O; else 0 |
///
/// A host replaces it by a [`Status`], in which bit 31 is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallWord(pub u32);

impl CallWord {
    /// A call by its number, with its operand and port.
    #[inline]
    pub const fn new(call: u8, operand: u8, port: u16) -> CallWord {
        let call = (call as u32) << CALL_SHIFT;
        CallWord(UNANSWERED | call | (operand as u32) << OPERAND_SHIFT | port as u32)
    }

    /// The call's number; `None` if bit 31 is clear: then it is not a call.
    pub const fn call(self) -> Option<u8> {
        if self.0 & UNANSWERED == 0 { None } else { Some((self.0 >> CALL_SHIFT & 0x7f) as u8) }
    }

    /// The operand.
    pub const fn operand(self) -> u8 {
        (self.0 >> OPERAND_SHIFT) as u8
    }

    /// The port.
    pub const fn port(self) -> u16 {
        self.0 as u16
    }
}

/// An answer: EAX after the instruction, or the word of a mailbox.
///
/// | bits | |
/// | --- | --- |
/// | 31 | 0; 1 if no host has answered: then the word is still the call |
/// | 24-30 | the status, see [`status`] |
/// | 0-23 | data, as the call defines |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// An answer.
    pub const fn new(code: u8, data: u32) -> Status {
        Status((code as u32) << CALL_SHIFT | data & DATA_MASK)
    }

    /// The status; `None` if no host has answered.
    #[inline]
    pub const fn code(self) -> Option<u8> {
        if self.0 & UNANSWERED == 0 { Some((self.0 >> CALL_SHIFT) as u8) } else { None }
    }

    /// Returns true if the call was carried out.
    #[inline]
    pub const fn is_ok(self) -> bool {
        self.0 >> CALL_SHIFT == status::OK as u32
    }

    /// The data.
    #[inline]
    pub const fn data(self) -> u32 {
        self.0 & DATA_MASK
    }
}
