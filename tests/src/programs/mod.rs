//! Small random programs around port I/O, whose port accesses are known beforehand.
//!
//! A [`Generator`] makes a [`Program`]. A [`Batch`] puts programs into the memory of the guest
//! `tests/guests/differ.S`, which runs each in one of seven kinds of code. [`model`] predicts their port
//! accesses; it shares no code with the plugin's decoder or with QEMU.

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
