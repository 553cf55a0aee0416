//! The hypercall ABI in numbers: instructions, calls, registers, answers.
//!
//! `guest-shim/ABI.md` explains them. All constants are generated from one list, as are those of
//! `include/pvio.h`. This module executes no instruction, so a host of any architecture can use it.

mod layout;
mod list;
mod words;

pub use layout::{CompactRecord, FileRequest, LargeMailbox, Mailbox, Record};
pub use list::*;
pub use words::{CallWord, Status};
