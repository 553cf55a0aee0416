//! Reads the guest's linear addresses through its page tables.

use super::PhysicalMemory;
use crate::guest_memory::read_by_page;
use crate::x86::{
    Access, Cr0, Cr4, Efer, KeyRights, Mode, PAGE, Paging, PhysicalMemory as PageTables, Rflags,
    Supervisor,
};

/// Linux's `PTI_USER_PGTABLE_BIT`: set in CR3 for the page table of user mode.
const CR3_PTI_USER: u64 = 1 << 12;

/// The paging registers of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
}

impl Registers {
    /// Returns true if paging is enabled.
    pub(super) fn is_paging(&self) -> bool {
        Cr0::from_bits_retain(self.cr0).contains(Cr0::PAGING)
    }
}

/// A reader of linear addresses.
pub(super) struct AddressSpace<'m, M> {
    memory: &'m M,
    paging: Paging,
}

impl<'m, M: PhysicalMemory> AddressSpace<'m, M> {
    /// The address space of exactly these registers, with paging.
    pub(super) fn of(memory: &'m M, registers: Registers) -> AddressSpace<'m, M> {
        let layout =
            Cr4::PAGE_SIZE_EXTENSIONS | Cr4::PHYSICAL_ADDRESS_EXTENSION | Cr4::LINEAR_ADDRESS_57;
        let efer = Efer::from_bits_retain(registers.efer);
        let paging = Paging {
            cr0: Cr0::PAGING,
            cr3: registers.cr3,
            cr4: Cr4::from_bits_retain(registers.cr4) & layout,
            efer: efer & Efer::LONG_MODE_ACTIVE | Efer::NO_EXECUTE_ENABLE,
            rflags: Rflags::empty(),
            supervisor: Supervisor::Yes,
            keys: KeyRights::default(),
        };
        AddressSpace { memory, paging }
    }

    /// The address spaces that may have a kernel while a vCPU has these registers.
    ///
    /// With page-table isolation, CR3 has no kernel in user mode, but the kernel's table is beside the user's. Without it,
    /// anything may be there, also a table of another process.
    pub(super) fn that_may_have_kernel(
        memory: &'m M,
        registers: Registers,
    ) -> Vec<AddressSpace<'m, M>> {
        if !registers.is_paging() {
            return Vec::new();
        }
        let space = AddressSpace::of(memory, registers);
        let beside = registers.cr3 & !CR3_PTI_USER;
        let beside = (beside != registers.cr3).then(|| space.with_table(beside));
        beside.into_iter().chain([space]).collect()
    }

    /// The address space of another top-level table.
    pub(super) fn with_table(&self, cr3: u64) -> AddressSpace<'m, M> {
        AddressSpace { memory: self.memory, paging: Paging { cr3, ..self.paging } }
    }

    /// The physical memory.
    pub(super) fn memory(&self) -> &'m M {
        self.memory
    }

    /// The registers of this address space.
    pub(super) fn registers(&self) -> Registers {
        let Paging { cr0, cr3, cr4, efer, .. } = self.paging;
        Registers { cr0: cr0.bits(), cr3, cr4: cr4.bits(), efer: efer.bits() }
    }

    /// The physical address of the top-level table.
    pub(super) fn table(&self) -> u64 {
        self.paging.cr3
    }

    /// Returns true if this is 64-bit paging.
    pub(super) fn is_64_bit(&self) -> bool {
        self.paging.efer.contains(Efer::LONG_MODE_ACTIVE)
    }

    /// The size of an address in bytes.
    pub(super) fn word_size(&self) -> u64 {
        if self.is_64_bit() { 8 } else { 4 }
    }

    /// The lowest address of a kernel.
    pub(super) fn kernel_half(&self) -> u64 {
        // A 32-bit kernel may give a process as little as 1 GiB.
        if self.is_64_bit() { 1 << 63 } else { 1 << 30 }
    }

    /// Translates a linear address. Returns `None` if it is not mapped.
    pub(super) fn translate(&self, linear: u64) -> Option<u64> {
        let mode = if self.is_64_bit() { Mode::Bits64 } else { Mode::Bits32 };
        if !self.paging.is_canonical(linear, mode) {
            return None;
        }
        self.paging.translate(linear, Access::Read, &Tables(self.memory)).ok()
    }

    /// Fills `into` from a linear address. Returns `None` if not all of it is mapped RAM.
    pub(super) fn read(&self, linear: u64, into: &mut [u8]) -> Option<()> {
        read_by_page(linear, into, |page, offset, into| {
            self.memory.read(self.translate(page)? + offset, into).then_some(())
        })
    }

    /// The bytes at a linear address.
    pub(super) fn bytes<const N: usize>(&self, linear: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read(linear, &mut bytes)?;
        Some(bytes)
    }

    /// The `u32` at a linear address.
    pub(super) fn u32(&self, linear: u64) -> Option<u32> {
        self.bytes(linear).map(u32::from_le_bytes)
    }

    /// The word of an address's size at a linear address.
    pub(super) fn word(&self, linear: u64) -> Option<u64> {
        match self.is_64_bit() {
            true => self.bytes(linear).map(u64::from_le_bytes),
            false => self.u32(linear).map(u64::from),
        }
    }

    /// A sequential reader that begins at a linear address.
    pub(super) fn cursor(&self, linear: u64) -> Cursor<'_, 'm, M> {
        Cursor { space: self, linear, page: None, bytes: [0; PAGE as usize] }
    }
}

/// Reads page tables.
struct Tables<'m, M>(&'m M);

impl<M: PhysicalMemory> PageTables for Tables<'_, M> {
    fn read_u32(&self, physical: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.0.read(physical, &mut bytes).then(|| u32::from_le_bytes(bytes))
    }

    fn read_u64(&self, physical: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.0.read(physical, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }
}

/// Reads sequentially. It caches one page, so that small reads are cheap.
pub(super) struct Cursor<'s, 'm, M> {
    space: &'s AddressSpace<'m, M>,
    linear: u64,
    /// The linear address of the cached page.
    page: Option<u64>,
    bytes: [u8; PAGE as usize],
}

impl<M: PhysicalMemory> Cursor<'_, '_, M> {
    /// The linear address of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.linear
    }

    /// Continues at another address.
    pub(super) fn seek(&mut self, linear: u64) {
        self.linear = linear;
    }

    /// Skips bytes.
    pub(super) fn skip(&mut self, bytes: u64) {
        self.linear = self.linear.wrapping_add(bytes);
    }

    /// Reads a byte.
    pub(super) fn u8(&mut self) -> Option<u8> {
        let byte = *self.rest_of_page()?.first()?;
        self.linear = self.linear.wrapping_add(1);
        Some(byte)
    }

    /// Reads `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut into = [0; N];
        self.fill(&mut into)?;
        Some(into)
    }

    /// Reads a `u32`.
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Fills `into` with the next bytes.
    pub(super) fn fill(&mut self, into: &mut [u8]) -> Option<()> {
        let mut filled = 0;
        while filled < into.len() {
            let bytes = self.rest_of_page()?;
            let now = bytes.len().min(into.len() - filled);
            into[filled..filled + now].copy_from_slice(&bytes[..now]);
            filled += now;
            self.skip(now as u64);
        }
        Some(())
    }

    /// Appends a string to `into`, without its zero byte. Returns `None` if it has more than `limit` bytes.
    pub(super) fn string(&mut self, into: &mut Vec<u8>, limit: usize) -> Option<()> {
        let begin = into.len();
        loop {
            let bytes = self.rest_of_page()?;
            let end = memchr::memchr(0, bytes);
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            if into.len() - begin + piece.len() > limit {
                return None;
            }
            into.extend_from_slice(piece);
            let passed = piece.len() as u64 + u64::from(end.is_some());
            self.skip(passed);
            if end.is_some() {
                return Some(());
            }
        }
    }

    /// The bytes from the next one to the end of its page.
    fn rest_of_page(&mut self) -> Option<&[u8]> {
        let (page, offset) = (self.linear & !(PAGE - 1), (self.linear % PAGE) as usize);
        if self.page != Some(page) {
            self.page = None;
            self.space.read(page, &mut self.bytes)?;
            self.page = Some(page);
        }
        Some(&self.bytes[offset..])
    }
}
