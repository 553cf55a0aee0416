//! Names code by the Linux kernel that runs in the guest.

use std::ops::Range;

use vm_memory::Bytes;

use crate::guest::{Kernel, Name, PhysicalMemory, Registers};
use crate::qemu::{GuestRam, PagingRegisterReader};

/// The result of looking for the kernel that runs.
#[derive(Debug, Default)]
pub(super) enum Running {
    /// This QEMU does not let pvio read the guest's memory.
    Unreadable,
    /// The guest is not Linux, or its kernel has no table of symbols.
    #[default]
    NotFound,
    /// A kernel.
    Found(Box<Kernel>),
}

impl Running {
    /// The kernel that was found.
    pub fn kernel(&self) -> Option<&Kernel> {
        match self {
            Running::Found(kernel) => Some(kernel),
            Running::Unreadable | Running::NotFound => None,
        }
    }
}

/// Finds the Linux kernel that runs in this machine.
pub struct GuestKernels {
    memory: Box<dyn PhysicalMemory + Send + Sync>,
    registers: Box<dyn Fn() -> Vec<Registers> + Send + Sync>,
}

impl GuestKernels {
    /// Searches this RAM by these registers.
    pub fn new(ram: GuestRam, registers: PagingRegisterReader) -> GuestKernels {
        let registers = move || {
            let vcpus = registers.read().into_iter();
            let registers = vcpus.map(|vcpu| Registers {
                cr0: vcpu.cr0,
                cr3: vcpu.cr3,
                cr4: vcpu.cr4,
                efer: vcpu.efer,
            });
            registers.collect()
        };
        GuestKernels { memory: Box::new(Ram(ram)), registers: Box::new(registers) }
    }

    /// Searches this memory.
    #[cfg(test)]
    pub(super) fn of(
        memory: impl PhysicalMemory + Send + Sync + 'static,
        registers: Registers,
    ) -> GuestKernels {
        let registers = Box::new(move || vec![registers]);
        GuestKernels { memory: Box::new(memory), registers }
    }

    /// The memory that is searched.
    pub(crate) fn memory(&self) -> &impl PhysicalMemory {
        &self.memory
    }

    /// Finds the kernel that runs now; `None` if the guest is not Linux.
    pub(crate) fn find(&self) -> Option<Kernel> {
        Kernel::find(&self.memory, &(self.registers)())
    }

    /// Finds the kernel that a vCPU left a moment ago.
    ///
    /// It must have most of these sites. `last_tables` are page tables that vCPUs used while it ran.
    pub(super) fn find_left(&self, last_tables: &[u64], sites: &[(u64, &[u8])]) -> Option<Kernel> {
        let candidates = Kernel::left(&self.memory, &(self.registers)(), last_tables);
        let mut found =
            candidates.iter().filter_map(|&registers| Kernel::find(&self.memory, &[registers]));
        found.find(|kernel| {
            let known = sites.iter().filter(|(pc, _)| kernel.name(*pc).is_some());
            let has = known.map(|(pc, bytes)| self.has(kernel, *pc, bytes));
            let (own, others): (Vec<bool>, Vec<bool>) = has.partition(|&has| has);
            own.len() > others.len()
        })
    }

    /// Returns true if the kernel that runs now has a site.
    ///
    /// The site's bytes must still be in memory, because another kernel may have been there. Initialization code is exempt,
    /// because the kernel frees its memory.
    pub(super) fn has(&self, kernel: &Kernel, pc: u64, bytes: &[u8]) -> bool {
        kernel.is_initialization(pc) || kernel.has_bytes(&self.memory, pc, bytes) == Some(true)
    }

    /// Names a site, if the kernel that runs now has it.
    pub(super) fn name<'k>(&self, kernel: &'k Kernel, pc: u64, bytes: &[u8]) -> Option<Name<'k>> {
        let name = kernel.name(pc)?;
        self.has(kernel, pc, bytes).then_some(name)
    }

    /// Names the kernel's own code in a call chain, `after` bytes after an address.
    ///
    /// Code in a module got its name when the chain was found: since then, another module may have replaced it.
    pub(super) fn caller(&self, kernel: &Kernel, address: u64, after: u64) -> Option<String> {
        let name = kernel.name(address).filter(|name| name.module.is_none())?;
        Some(Name { offset: name.offset + after, ..name }.to_string())
    }
}

/// The RAM of this machine.
struct Ram(GuestRam);

impl PhysicalMemory for Ram {
    fn read(&self, physical: u64, into: &mut [u8]) -> bool {
        let len = into.len();
        self.0.with(physical, len, |memory| memory.read_slice(into, 0).is_ok()).unwrap_or(false)
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        self.0.touched_ranges()
    }
}
