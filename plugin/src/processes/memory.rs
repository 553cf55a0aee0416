//! Reads a kernel's own data, at the cost of a few loads.

use std::cell::RefCell;

use crate::guest::Registers;
use crate::guest_memory::{CachedEntries, read_by_page, translate_page};
use crate::qemu::{PagingRegisters, RamPages};
use crate::x86::{Access, Cr0, Cr4, Efer, KeyRights, PAGE, Paging, Rflags, Supervisor};

/// Number of translations that are kept. The cache is direct-mapped.
const TRANSLATIONS: usize = 256;

/// Reads a kernel's memory through its own page table, and caches translations.
///
/// The translations of per-CPU data and of threads do not change while the kernel runs.
pub(super) struct KernelMemory {
    pages: RefCell<RamPages>,
    paging: Paging,
    /// Linear and physical addresses of pages.
    translated: Vec<Option<(u64, u64)>>,
}

impl KernelMemory {
    /// Creates a reader. `registers` are the paging registers of the kernel's own page table.
    pub fn new(mut pages: RamPages, registers: Registers) -> KernelMemory {
        pages.clear();
        let Registers { cr0, cr3, cr4, efer } = registers;
        let paging = paging(cr0, cr3, Cr4::from_bits_retain(cr4), efer);
        KernelMemory { pages: RefCell::new(pages), paging, translated: vec![None; TRANSLATIONS] }
    }

    pub fn into_pages(self) -> RamPages {
        self.pages.into_inner()
    }

    /// Fills `into` from a linear address. Returns false if not all of it can be read.
    #[inline]
    pub fn read(&mut self, linear: u64, into: &mut [u8]) -> bool {
        read_by_page(linear, into, |page, offset, into| {
            let physical = self.translate(page)?;
            self.pages.get_mut().read(physical + offset, into).then_some(())
        })
        .is_some()
    }

    /// Fills `page` from user memory, through a vCPU's page table. Returns false if it is not mapped.
    pub fn read_user(&mut self, registers: PagingRegisters, linear: u64, page: &mut [u8]) -> bool {
        let PagingRegisters { cr0, cr3, cr4, efer } = registers;
        // SMAP restricts the kernel's own accesses only.
        let cr4 = Cr4::from_bits_retain(cr4) - Cr4::SMAP;
        let paging = paging(cr0, cr3, cr4, efer);
        let physical = paging.translate(linear, Access::Read, &CachedEntries(&self.pages));
        physical.is_ok_and(|physical| self.pages.get_mut().read(physical, page))
    }

    #[inline]
    fn translate(&mut self, page: u64) -> Option<u64> {
        let slot = (page / PAGE) as usize % TRANSLATIONS;
        match self.translated[slot] {
            Some((linear, physical)) if linear == page => Some(physical),
            _ => self.walk(page, slot),
        }
    }

    #[cold]
    fn walk(&mut self, page: u64, slot: usize) -> Option<u64> {
        let physical = translate_page(&self.paging, page, &self.pages)?;
        self.translated[slot] = Some((page, physical));
        Some(physical)
    }
}

/// Paging by these registers, for reads by the kernel.
fn paging(cr0: u64, cr3: u64, cr4: Cr4, efer: u64) -> Paging {
    Paging {
        cr0: Cr0::from_bits_retain(cr0) & Cr0::PAGING,
        cr3,
        cr4,
        efer: Efer::from_bits_retain(efer),
        rflags: Rflags::empty(),
        supervisor: Supervisor::Yes,
        keys: KeyRights::default(),
    }
}
