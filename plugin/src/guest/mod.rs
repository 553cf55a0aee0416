//! What a Linux guest says about itself: names of its code, from its own tables in its memory.
//!
//! A kernel carries everything that is needed to name its code: the table of its symbols (kallsyms), its
//! types (BTF), and the list of its modules. All of it is found by the page tables that a vCPU uses, so
//! that a kernel that moved itself (KASLR) needs no file and no slide.
//!
//! Nothing here knows QEMU or counting. Guest memory is not trusted: every length and offset is checked,
//! so a hostile table costs bounded time and memory, and gives no names.

mod address_space;
mod btf;
mod captures;
mod kallsyms;
mod kernel;
mod modules;
mod names;
mod process;
mod shape;
mod unwind;
mod vmcoreinfo;

use std::ops::Range;

pub use address_space::Registers;
pub use captures::{
    CaptureTable, MOST_BYTES, MOST_OF_SITE, MOST_STACKS, SiteStacks, StackCapture, StackId,
};
pub use kernel::Kernel;
pub use names::Name;
pub use process::{Mapping, Process, Processes};
pub use unwind::{Chain, End, Frame, MOST_FRAMES, Recipe, Start, Unwound, unwind};

/// The guest's RAM, by physical address.
pub trait PhysicalMemory {
    /// Fills `into`. Returns false if not all of it is RAM.
    fn read(&self, physical: u64, into: &mut [u8]) -> bool;

    /// The RAM, in ascending order and in whole pages. Pages that hold only zeros may be left out.
    fn ranges(&self) -> Vec<Range<u64>>;
}

#[cfg(test)]
mod tests;
