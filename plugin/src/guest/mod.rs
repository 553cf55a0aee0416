//! What a guest's memory says about its code: names, call chains, and processes.
//!
//! A Linux kernel carries everything that is needed: the table of its symbols (kallsyms), its types (BTF), the
//! list of its modules, and tables for unwinding (ORC). All of it is found by the page tables that a vCPU
//! uses, so that a kernel that moved itself (KASLR) needs no file and no slide.
//!
//! - [`Kernel`] finds the kernel, and names its code.
//! - [`unwind`] gives the callers of a place; [`CaptureTable`] recognizes stacks that were unwound before.
//! - [`Processes`] tells which process runs, and what it has mapped where.
//!
//! - [`Firmware`] tells which module of UEFI firmware code belongs to.
//!
//! Nothing here knows QEMU or counting. Guest memory is not trusted: every length and offset is checked,
//! so a hostile table costs bounded time and memory, and gives nothing.

mod address_space;
mod btf;
mod captures;
mod kallsyms;
mod kernel;
mod modules;
mod names;
mod process;
mod shape;
mod uefi;
mod unwind;
mod vmcoreinfo;

use std::ops::Range;

pub use address_space::Registers;
pub use captures::{
    Caller, CaptureTable, Found, KnownKernel, MOST_BYTES, MOST_OF_SITE, MOST_STACKS, StackCapture,
    StackId,
};
pub use kernel::{Kernel, KernelIdentity};
pub use names::Name;
pub use process::{Comm, Identity, MappedElf, Mapping, Process, Processes};
pub use uefi::{Firmware, SeenImage};
pub use unwind::{Chain, End, Frame, MOST_FRAMES, Recipe, Start, Unwound, unwind};

/// The guest's RAM, by physical address.
pub trait PhysicalMemory {
    /// Fills `into`. Returns false if not all of it is RAM.
    fn read(&self, physical: u64, into: &mut [u8]) -> bool;

    /// The RAM, in ascending order and in whole pages. Pages that hold only zeros may be left out.
    fn ranges(&self) -> Vec<Range<u64>>;
}

impl<M: PhysicalMemory + ?Sized> PhysicalMemory for Box<M> {
    fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        (**self).read(physical, into)
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        (**self).ranges()
    }
}

#[cfg(test)]
pub(crate) mod tests;
