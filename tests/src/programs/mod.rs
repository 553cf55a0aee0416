//! Small programs around port I/O, made at random, whose every port access is known beforehand.
//!
//! A [`Program`] is made by a [`Generator`], put into the memory of the guest `tests/guests/differ.S` as
//! part of a [`Batch`], and runs there in one of seven kinds of code. [`model`] says what it does to
//! the ports; it shares no code with the plugin's own decoder, nor with QEMU.

mod generate;
mod image;
mod instruction;
mod layout;
mod log;
mod model;
mod program;

pub use generate::Generator;
pub use image::{Batch, Outcome};
pub use instruction::{AddressSize, Instruction, PortIo, Source};
pub use log::{LoggedAccess, read_log};
pub use model::{Access, Effects, Event, Expected, model};
pub use program::{CodeKind, Program, Register, Segment, SegmentName};
