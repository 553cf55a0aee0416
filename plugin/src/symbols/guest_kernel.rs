//! Names from the Linux kernel that runs in the guest.

use std::ops::Range;

use super::linux::Memory;
use crate::guest::{Kernel, Name, PhysicalMemory, Registers};
use crate::qemu::{GuestRam, PagingRegisterReader};

/// Finds the Linux kernel that runs in this machine.
pub struct GuestKernels {
    ram: GuestRam,
    registers: PagingRegisterReader,
}

impl GuestKernels {
    /// Searches this RAM by these registers.
    pub fn new(ram: GuestRam, registers: PagingRegisterReader) -> GuestKernels {
        GuestKernels { ram, registers }
    }

    /// Finds the kernel that runs now; `None` if the guest is not Linux.
    pub(crate) fn find(&self) -> Option<Kernel> {
        let registers = self.registers.read().into_iter().map(|vcpu| Registers {
            cr0: vcpu.cr0,
            cr3: vcpu.cr3,
            cr4: vcpu.cr4,
            efer: vcpu.efer,
        });
        Kernel::find(self, &registers.collect::<Vec<_>>())
    }

    /// Names a site, if the kernel that runs now has it.
    ///
    /// The site's bytes must still be in memory: another module may be where an unloaded one was. Initialization code is
    /// exempt, because the kernel frees its memory.
    pub(super) fn name(&self, kernel: &Kernel, pc: u64, bytes: &[u8]) -> Option<String> {
        let name = kernel.name(pc)?;
        let is_there =
            kernel.is_initialization(pc) || kernel.has_bytes(self, pc, bytes) == Some(true);
        is_there.then(|| name.to_string())
    }

    /// Names code in a call chain, `after` bytes after an address. A module must still have its bytes.
    pub(super) fn caller(
        &self,
        kernel: &Kernel,
        address: u64,
        after: u64,
        code: &[u8],
    ) -> Option<String> {
        let name = kernel.name(address)?;
        let is_there = name.module.is_none() || kernel.has_bytes(self, address, code) == Some(true);
        is_there.then(|| Name { offset: name.offset + after, ..name }.to_string())
    }
}

impl PhysicalMemory for GuestKernels {
    fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        Memory::read(&self.ram, physical, into)
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        self.ram.touched_ranges()
    }
}
