//! The bits of RFLAGS, control registers, IA32_EFER and page-table entries that this crate uses.

use bitflags::bitflags;

bitflags! {
    /// Bits of RFLAGS (SDM vol. 1, 3.4.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rflags: u64 {
        /// TF: a debug trap follows each instruction, and each element of a `rep`.
        const TRAP = 1 << 8;
        /// IOPL: both bits. See [`Rflags::iopl`].
        const IOPL = 3 << 12;
        /// RF: set in the flags that a fault handler's return restores, and while a `rep` is interrupted (SDM vol. 3, 19.3.1.1). QEMU
        /// also sets it in the flags that the return from most interrupt handlers restores.
        const RESUME = 1 << 16;
        /// VM: virtual-8086 mode.
        const VIRTUAL_8086 = 1 << 17;
        /// AC: in supervisor code, suspends SMAP.
        const ALIGNMENT_CHECK = 1 << 18;
    }
}

impl Rflags {
    /// Returns the I/O privilege level, 0 to 3.
    pub const fn iopl(self) -> u8 {
        (self.bits() >> 12 & 3) as u8
    }
}

bitflags! {
    /// Bits of CR0 (SDM vol. 3, 2.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Cr0: u64 {
        /// PE: protected mode.
        const PROTECTION_ENABLE = 1 << 0;
        /// WP: supervisor code obeys read-only pages.
        const WRITE_PROTECT = 1 << 16;
        /// PG: paging.
        const PAGING = 1 << 31;
    }
}

bitflags! {
    /// Bits of CR4 (SDM vol. 3, 2.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Cr4: u64 {
        /// PSE: 4 MiB pages in 32-bit paging.
        const PAGE_SIZE_EXTENSIONS = 1 << 4;
        /// PAE: 8-byte page-table entries.
        const PHYSICAL_ADDRESS_EXTENSION = 1 << 5;
        /// LA57: 5-level paging.
        const LINEAR_ADDRESS_57 = 1 << 12;
        /// SMAP: supervisor code may not access user pages.
        const SMAP = 1 << 21;
        /// PKE: PKRU restricts user pages.
        const PROTECTION_KEYS_USER = 1 << 22;
        /// PKS: IA32_PKRS restricts supervisor pages.
        const PROTECTION_KEYS_SUPERVISOR = 1 << 24;
    }
}

bitflags! {
    /// Bits of IA32_EFER (SDM vol. 3, 2.2.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Efer: u64 {
        /// LMA: IA-32e mode is active.
        const LONG_MODE_ACTIVE = 1 << 10;
        /// NXE: page-table entries have a no-execute bit.
        const NO_EXECUTE_ENABLE = 1 << 11;
    }
}

bitflags! {
    /// Bits of a page-table entry (SDM vol. 3, 5.3 to 5.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct EntryFlags: u64 {
        /// P: the entry maps something.
        const PRESENT = 1 << 0;
        /// R/W: writes are permitted.
        const WRITABLE = 1 << 1;
        /// U/S: user code may access it.
        const USER = 1 << 2;
        /// A: the processor has used the entry.
        const ACCESSED = 1 << 5;
        /// D: the processor has written to the page.
        const DIRTY = 1 << 6;
        /// PS: the entry maps a large page, not a table.
        const LARGE = 1 << 7;
        /// XD: instructions may not be fetched. A reserved bit without [`Efer::NO_EXECUTE_ENABLE`].
        const NO_EXECUTE = 1 << 63;
    }
}
