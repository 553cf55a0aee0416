//! Translates a linear address to a physical one, without side effects (SDM vol. 3, chapter "Paging").
//!
//! It is stricter than the processor. If the processor would set an accessed or dirty bit, or if a protection key
//! register is not known, the answer is [`NeedsFault`]. Page tables are only read.

use super::{Cr0, Cr4, Efer, EntryFlags, Mode, Rflags, Supervisor};

/// The size of the smallest page in bytes.
pub const PAGE: u64 = 0x1000;

/// The shift of the protection key in the 8-byte entry of a page (bits 62:59).
const KEY_SHIFT: u32 = 59;
/// The mask of the address in an 8-byte entry (bits 51:12).
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The kind of an access to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A read.
    Read,
    /// A write.
    Write,
}

/// The page cannot be used as it is; the guest must touch it first.
///
/// It is absent, not permitted, not accessed yet (or not dirty, for a write), or the registers do not decide. When the
/// guest touches it, the processor decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the page must be touched first")]
pub struct NeedsFault;

/// Physical memory, from which page tables and control blocks are read.
pub trait PhysicalMemory {
    /// Reads 4 bytes at a multiple of 4; `None` if there is no memory.
    fn read_u32(&self, physical: u64) -> Option<u32>;
    /// Reads 8 bytes at a multiple of 8; `None` if there is no memory.
    fn read_u64(&self, physical: u64) -> Option<u64>;
}

/// The registers that decide how a linear address is translated.
///
/// ```
/// use pvio_x86::*;
///
/// /// One page table in 32-bit paging: every entry of it maps physical page 0x5000 to users.
/// struct Memory;
/// impl PhysicalMemory for Memory {
///     fn read_u32(&self, physical: u64) -> Option<u32> {
///         let flags = EntryFlags::PRESENT | EntryFlags::USER | EntryFlags::ACCESSED;
///         let address = if physical < 0x2000 { 0x2000 } else { 0x5000 };
///         Some(address | flags.bits() as u32)
///     }
///     fn read_u64(&self, _: u64) -> Option<u64> {
///         None
///     }
/// }
///
/// let paging = Paging {
///     cr0: Cr0::PROTECTION_ENABLE | Cr0::PAGING,
///     cr3: 0x1000,
///     cr4: Cr4::empty(),
///     efer: Efer::empty(),
///     rflags: Rflags::empty(),
///     supervisor: Supervisor::No,
///     keys: KeyRights::default(),
/// };
/// assert_eq!(paging.translate(0x40_0123, Access::Read, &Memory), Ok(0x5123));
/// assert_eq!(paging.translate(0x40_0123, Access::Write, &Memory), Err(NeedsFault));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    /// CR0. If paging is off, the other fields have no meaning.
    pub cr0: Cr0,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: Cr4,
    /// IA32_EFER.
    pub efer: Efer,
    /// RFLAGS, of which AC suspends SMAP.
    pub rflags: Rflags,
    /// True if supervisor code makes the access.
    pub supervisor: Supervisor,
    /// The protection key registers. They matter only if [`Paging::has_keys`].
    pub keys: KeyRights,
}

/// The protection key registers. `None` if a register is not known.
///
/// Each has two bits for each key: access disable, write disable.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyRights {
    /// PKRU, for user pages.
    pub user: Option<u32>,
    /// IA32_PKRS, for supervisor pages.
    pub supervisor: Option<u32>,
}

impl Paging {
    /// Returns true if protection keys restrict any pages.
    pub fn has_keys(&self) -> bool {
        let keys = Cr4::PROTECTION_KEYS_USER | Cr4::PROTECTION_KEYS_SUPERVISOR;
        self.efer.contains(Efer::LONG_MODE_ACTIVE) && self.cr4.intersects(keys)
    }

    /// Returns true if code of this mode can have the address: 32 bits, or canonical.
    pub fn is_canonical(&self, linear: u64, mode: Mode) -> bool {
        let unused = match (mode, self.cr4.contains(Cr4::LINEAR_ADDRESS_57)) {
            (Mode::Bits16 | Mode::Bits32, _) => return linear >> 32 == 0,
            (Mode::Bits64, false) => 16,
            (Mode::Bits64, true) => 7,
        };
        ((linear << unused) as i64 >> unused) as u64 == linear
    }

    /// Translates a linear address to a physical one.
    ///
    /// # Errors
    ///
    /// [`NeedsFault`] if the access could fault, or would set a bit in a page table.
    pub fn translate(
        &self,
        linear: u64,
        access: Access,
        entries: &impl PhysicalMemory,
    ) -> Result<u64, NeedsFault> {
        if !self.cr0.contains(Cr0::PAGING) {
            return Ok(linear);
        }
        let is_long = self.efer.contains(Efer::LONG_MODE_ACTIVE);
        match (self.cr4.contains(Cr4::PHYSICAL_ADDRESS_EXTENSION), is_long) {
            (false, _) => self.walk_32_bit(linear, access, entries),
            (true, false) => self.walk_pae(linear, access, entries),
            (true, true) => {
                let levels = if self.cr4.contains(Cr4::LINEAR_ADDRESS_57) { 5 } else { 4 };
                self.walk(linear, access, levels, self.cr3 & ADDRESS, Rights::ALL, entries)
            }
        }
    }

    /// Walks two levels of 4-byte entries, to pages of 4 KiB and 4 MiB.
    fn walk_32_bit(
        &self,
        linear: u64,
        access: Access,
        entries: &impl PhysicalMemory,
    ) -> Result<u64, NeedsFault> {
        let read = |table: u64, index: u64| -> Result<u64, NeedsFault> {
            let entry = entries.read_u32(table + 4 * index).ok_or(NeedsFault)?;
            Ok(u64::from(entry))
        };
        let directory = read(self.cr3 & 0xffff_f000, linear >> 22 & 0x3ff)?;
        let rights = Rights::ALL.and(directory)?;
        if has(directory, EntryFlags::LARGE) && self.cr4.contains(Cr4::PAGE_SIZE_EXTENSIONS) {
            // PSE-36: bits 39:32 of the address are bits 20:13 of the entry; bit 21 is reserved.
            if directory & 1 << 21 != 0 {
                return Err(NeedsFault);
            }
            self.permit(rights, directory, access)?;
            let base = directory & 0xffc0_0000 | (directory >> 13 & 0xff) << 32;
            return Ok(base | linear & 0x003f_ffff);
        }
        let entry = read(directory & 0xffff_f000, linear >> 12 & 0x3ff)?;
        self.permit(rights.and(entry)?, entry, access)?;
        Ok(entry & 0xffff_f000 | linear & 0xfff)
    }

    /// Walks four pointers, which carry no rights, and two levels of 8-byte entries.
    fn walk_pae(
        &self,
        linear: u64,
        access: Access,
        entries: &impl PhysicalMemory,
    ) -> Result<u64, NeedsFault> {
        let at = (self.cr3 & 0xffff_ffe0) + 8 * (linear >> 30 & 3);
        let pointer = entries.read_u64(at).ok_or(NeedsFault)?;
        // Bits 1, 2, 5 to 8 and 63 are reserved, but QEMU sets bit 5 (accessed) in a pointer.
        let reserved = 0x1c6 | EntryFlags::NO_EXECUTE.bits();
        if !has(pointer, EntryFlags::PRESENT) || pointer & reserved != 0 {
            return Err(NeedsFault);
        }
        self.walk(linear, access, 2, pointer & ADDRESS, Rights::ALL, entries)
    }

    /// Walks `levels` levels of 8-byte entries, from `table` down.
    fn walk(
        &self,
        linear: u64,
        access: Access,
        levels: u32,
        mut table: u64,
        mut rights: Rights,
        entries: &impl PhysicalMemory,
    ) -> Result<u64, NeedsFault> {
        let has_no_execute = self.efer.contains(Efer::NO_EXECUTE_ENABLE);
        for level in (1..=levels).rev() {
            let shift = 12 + 9 * (level - 1);
            let at = table + 8 * (linear >> shift & 0x1ff);
            let entry = entries.read_u64(at).ok_or(NeedsFault)?;
            if has(entry, EntryFlags::NO_EXECUTE) && !has_no_execute {
                return Err(NeedsFault);
            }
            rights = rights.and(entry)?;
            let is_large = level > 1 && has(entry, EntryFlags::LARGE);
            if level > 1 && !is_large {
                table = entry & ADDRESS;
                continue;
            }
            // Large pages have 2 MiB or 1 GiB. The address bits below that are reserved, except bit 12 (PAT).
            let offset = (1u64 << shift) - 1;
            if level > 3 || is_large && entry & ADDRESS & offset & !(1 << 12) != 0 {
                return Err(NeedsFault);
            }
            self.permit(rights, entry, access)?;
            return Ok(entry & ADDRESS & !offset | linear & offset);
        }
        Err(NeedsFault)
    }

    /// Permits an access to a page with these rights, whose last entry is `leaf`.
    fn permit(&self, rights: Rights, leaf: u64, access: Access) -> Result<(), NeedsFault> {
        let writes = access == Access::Write;
        let may = match self.supervisor {
            Supervisor::No => rights.user && (rights.writable || !writes),
            Supervisor::Yes => {
                let smap =
                    self.cr4.contains(Cr4::SMAP) && !self.rflags.contains(Rflags::ALIGNMENT_CHECK);
                let may_write = rights.writable || !self.obeys_read_only();
                !(rights.user && smap) && (may_write || !writes)
            }
        };
        let is_dirty = has(leaf, EntryFlags::DIRTY);
        match may && self.key_permits(rights, leaf, access) && (is_dirty || !writes) {
            true => Ok(()),
            false => Err(NeedsFault),
        }
    }

    /// Returns true if supervisor code obeys read-only pages and write-disabled keys.
    fn obeys_read_only(&self) -> bool {
        self.cr0.contains(Cr0::WRITE_PROTECT)
    }

    /// Returns true if the page's protection key permits the access (SDM vol. 3, "Protection Keys").
    ///
    /// False if the register that decides is not known.
    fn key_permits(&self, rights: Rights, leaf: u64, access: Access) -> bool {
        let (enabled, keys) = match rights.user {
            true => (Cr4::PROTECTION_KEYS_USER, self.keys.user),
            false => (Cr4::PROTECTION_KEYS_SUPERVISOR, self.keys.supervisor),
        };
        if !self.efer.contains(Efer::LONG_MODE_ACTIVE) || !self.cr4.contains(enabled) {
            return true;
        }
        let Some(keys) = keys else { return false };
        let bits = keys >> (2 * (leaf >> KEY_SHIFT & 0xf));
        let (access_disable, write_disable) = (bits & 1 != 0, bits & 2 != 0);
        let obeys_write_disable = self.supervisor == Supervisor::No || self.obeys_read_only();
        let writes = access == Access::Write;
        !(access_disable || write_disable && writes && obeys_write_disable)
    }
}

fn has(entry: u64, flags: EntryFlags) -> bool {
    EntryFlags::from_bits_retain(entry).contains(flags)
}

/// The rights that all levels so far grant.
#[derive(Clone, Copy)]
struct Rights {
    user: bool,
    writable: bool,
}

impl Rights {
    const ALL: Rights = Rights { user: true, writable: true };

    /// Adds a level, whose entry must be present and accessed.
    fn and(self, entry: u64) -> Result<Rights, NeedsFault> {
        if !has(entry, EntryFlags::PRESENT | EntryFlags::ACCESSED) {
            return Err(NeedsFault);
        }
        Ok(Rights {
            user: self.user && has(entry, EntryFlags::USER),
            writable: self.writable && has(entry, EntryFlags::WRITABLE),
        })
    }
}

#[cfg(test)]
mod tests;
