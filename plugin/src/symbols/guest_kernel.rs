//! Names from the Linux kernel that runs in the guest.

use std::ops::Range;

use vm_memory::Bytes;

use crate::guest::{Kernel, PhysicalMemory, Registers};
use crate::qemu::{GuestRam, PagingRegisterReader};

/// Where the running kernel is looked for.
pub struct GuestKernels {
    ram: GuestRam,
    registers: PagingRegisterReader,
}

impl GuestKernels {
    /// Looks in this machine.
    pub fn new(ram: GuestRam, registers: PagingRegisterReader) -> GuestKernels {
        GuestKernels { ram, registers }
    }

    /// The kernel that runs now, if the guest is Linux.
    pub(super) fn find(&self) -> Option<Kernel> {
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
    /// A module may have been unloaded, and another may be in its place: then other bytes are there. Code of the
    /// kernel's initialization is freed, so what is there now says nothing.
    pub(super) fn name(&self, kernel: &Kernel, pc: u64, bytes: &[u8]) -> Option<String> {
        let name = kernel.name(pc)?;
        let is_there =
            kernel.is_initialization(pc) || kernel.has_bytes(self, pc, bytes) == Some(true);
        is_there.then(|| name.to_string())
    }
}

impl PhysicalMemory for GuestKernels {
    fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        let len = into.len();
        let copy = |memory: vm_memory::VolatileSlice<'_>| memory.read_slice(into, 0).is_ok();
        self.ram.with(physical, len, copy).unwrap_or(false)
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        self.ram.touched_ranges()
    }
}
