//! Reads a guest's own tables in its memory: names of code, call chains, and processes.
//!
//! A Linux kernel carries all that is needed: its symbol table (kallsyms), its types (BTF), the list of its modules, and
//! unwind tables (ORC). They are found through the page tables of a vCPU, so a kernel that moved itself (KASLR) needs no
//! file and no load offset.
//!
//! - [`Kernel`] finds the kernel, and names its code.
//! - [`unwind`] finds the callers of code; [`CaptureTable`] recognizes stacks that were unwound before.
//! - [`Processes`] finds the process that runs, and its mappings.
//! - [`Firmware`] finds the module of UEFI firmware that code belongs to.
//!
//! This module does not know QEMU or counting. Guest memory is not trusted: every length and offset is checked, so a hostile
//! table costs bounded time and memory, and yields no names.

mod address_space;
mod btf;
mod captures;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
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
pub use modules::ModuleNamer;
pub use names::Name;
pub use process::{Comm, Identity, MappedElf, Mapping, Process, Processes};
pub use uefi::{Firmware, SeenImage};
pub use unwind::{Chain, End, Frame, MOST_FRAMES, Recipe, Start, Unwound, unwind};

/// The guest's RAM, by physical address.
pub trait PhysicalMemory {
    /// Fills `into`. Returns false if not all of it is RAM.
    fn read(&self, physical: u64, into: &mut [u8]) -> bool;

    /// The ranges of RAM, ascending and in whole pages. Pages of zeros may be left out.
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

#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, expect(dead_code, reason = "the tests use all of it"))]
pub(crate) mod synthetic_kernel;
#[cfg(test)]
mod tests;
