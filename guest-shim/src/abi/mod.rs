//! The hypercall ABI in numbers: instructions, calls, registers, answers.
//!
//! `guest-shim/ABI.md` explains them. All constants are made from one list, which also makes those of
//! `include/pvio.h`. Nothing here executes anything, so a host of any architecture can use this module.

mod layout;
mod list;
mod words;

pub use layout::{Mailbox, Record};
pub use list::*;
pub use words::{CallWord, Status};
