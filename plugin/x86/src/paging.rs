//! From a linear address to a physical one, as the processor would go for a caller of some privilege
//! (SDM vol. 3, chapter "Paging"), without leaving a trace.
//!
//! It is stricter than the processor: where that would set an accessed or dirty bit, or where something
//! decides that is not known here (a register of protection keys), the answer is that the page must be
//! touched first. Page tables are only read.

use super::{Mode, RFLAGS_AC, Supervisor};

/// Bytes of the smallest page; nothing that is asked here spans two.
pub const PAGE: u64 = 0x1000;

const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
const CR4_SMAP: u64 = 1 << 21;
const CR4_PKE: u64 = 1 << 22;
const CR4_PKS: u64 = 1 << 24;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// Where an 8-byte entry of a page has its protection key (bits 62:59).
const KEY_SHIFT: u32 = 59;
/// Where an 8-byte entry has an address (bits 51:12).
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What the caller wants of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read it.
    Read,
    /// To write it.
    Write,
}

/// The page cannot be used as it is: it is absent, not permitted, not accessed yet (or not dirty, for a
/// write), or it cannot be judged here. If the caller touches it, the processor decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the page must be touched first")]
pub struct NeedsFault;

/// Reads entries of page tables, and other things that the processor reads by itself, at physical
/// addresses; `None` where there is no memory.
pub trait PhysicalMemory {
    /// 4 bytes, at a multiple of 4.
    fn read_u32(&self, physical: u64) -> Option<u32>;
    /// 8 bytes, at a multiple of 8.
    fn read_u64(&self, physical: u64) -> Option<u64>;
}

/// The registers that decide how a linear address is translated, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    /// CR0.
    pub cr0: u64,
    /// CR3; of no meaning without paging, as are the following.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// RFLAGS, of which AC suspends SMAP.
    pub rflags: u64,
    /// Whose access it is.
    pub supervisor: Supervisor,
    /// What protection keys permit, where [`Paging::has_keys`].
    pub keys: KeyRights,
}

/// What each protection key permits: two bits for each key, access disable and write disable. `None`
/// where that is not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyRights {
    /// PKRU: for pages of users.
    pub user: Option<u32>,
    /// IA32_PKRS: for pages of the supervisor.
    pub supervisor: Option<u32>,
}

impl Paging {
    /// Whether these bits of CR0 say that there is paging.
    pub fn is_on(cr0: u64) -> bool {
        cr0 & CR0_PG != 0
    }

    /// Whether protection keys decide, on some pages.
    pub fn has_keys(&self) -> bool {
        self.efer & EFER_LMA != 0 && self.cr4 & (CR4_PKE | CR4_PKS) != 0
    }

    /// Whether an address is one that code of this mode can have: 32 bits, or canonical.
    pub fn is_canonical(&self, linear: u64, mode: Mode) -> bool {
        let unused = match (mode, self.cr4 & CR4_LA57 != 0) {
            (Mode::Bits16 | Mode::Bits32, _) => return linear >> 32 == 0,
            (Mode::Bits64, false) => 16,
            (Mode::Bits64, true) => 7,
        };
        ((linear << unused) as i64 >> unused) as u64 == linear
    }

    /// The physical address of a linear one.
    pub fn translate(
        &self,
        linear: u64,
        access: Access,
        entries: &impl PhysicalMemory,
    ) -> Result<u64, NeedsFault> {
        if !Paging::is_on(self.cr0) {
            return Ok(linear);
        }
        match (self.cr4 & CR4_PAE != 0, self.efer & EFER_LMA != 0) {
            (false, _) => self.walk_32_bit(linear, access, entries),
            (true, false) => self.walk_pae(linear, access, entries),
            (true, true) => {
                let levels = if self.cr4 & CR4_LA57 != 0 { 5 } else { 4 };
                self.walk(linear, access, levels, self.cr3 & ADDRESS, Rights::ALL, entries)
            }
        }
    }

    /// Two levels of 4-byte entries; pages of 4 KiB and 4 MiB.
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
        if directory & LARGE != 0 && self.cr4 & CR4_PSE != 0 {
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

    /// Four pointers, which have no rights of their own, to two levels of 8-byte entries.
    fn walk_pae(
        &self,
        linear: u64,
        access: Access,
        entries: &impl PhysicalMemory,
    ) -> Result<u64, NeedsFault> {
        let at = (self.cr3 & 0xffff_ffe0) + 8 * (linear >> 30 & 3);
        let pointer = entries.read_u64(at).ok_or(NeedsFault)?;
        // Bits 1, 2, 5 to 8 and 63 are reserved; but QEMU marks a pointer as accessed in bit 5.
        if pointer & PRESENT == 0 || pointer & (0x1c6 | NO_EXECUTE) != 0 {
            return Err(NeedsFault);
        }
        self.walk(linear, access, 2, pointer & ADDRESS, Rights::ALL, entries)
    }

    /// `levels` levels of 8-byte entries, from the one at `table` down.
    fn walk(
        &self,
        linear: u64,
        access: Access,
        levels: u32,
        mut table: u64,
        mut rights: Rights,
        entries: &impl PhysicalMemory,
    ) -> Result<u64, NeedsFault> {
        for level in (1..=levels).rev() {
            let shift = 12 + 9 * (level - 1);
            let at = table + 8 * (linear >> shift & 0x1ff);
            let entry = entries.read_u64(at).ok_or(NeedsFault)?;
            if entry & NO_EXECUTE != 0 && self.efer & EFER_NXE == 0 {
                return Err(NeedsFault);
            }
            rights = rights.and(entry)?;
            let is_large = level > 1 && entry & LARGE != 0;
            if level > 1 && !is_large {
                table = entry & ADDRESS;
                continue;
            }
            // Large pages are of 2 MiB and 1 GiB; the bits of the address below that are reserved, but
            // for bit 12, which is PAT.
            let offset = (1u64 << shift) - 1;
            if level > 3 || is_large && entry & ADDRESS & offset & !(1 << 12) != 0 {
                return Err(NeedsFault);
            }
            self.permit(rights, entry, access)?;
            return Ok(entry & ADDRESS & !offset | linear & offset);
        }
        Err(NeedsFault)
    }

    /// Whether the access may be made to a page with these rights, by its last entry.
    fn permit(&self, rights: Rights, leaf: u64, access: Access) -> Result<(), NeedsFault> {
        let writes = access == Access::Write;
        let may = match self.supervisor {
            Supervisor::No => rights.user && (rights.writable || !writes),
            Supervisor::Yes => {
                let smap = self.cr4 & CR4_SMAP != 0 && self.rflags & RFLAGS_AC == 0;
                !(rights.user && smap) && (rights.writable || !writes || self.cr0 & CR0_WP == 0)
            }
        };
        match may && self.key_permits(rights, leaf, access) && (leaf & DIRTY != 0 || !writes) {
            true => Ok(()),
            false => Err(NeedsFault),
        }
    }

    /// Whether the page's protection key permits the access (SDM vol. 3A, "Protection Keys"); not, where
    /// that is not known.
    fn key_permits(&self, rights: Rights, leaf: u64, access: Access) -> bool {
        let (enabled, keys) = match rights.user {
            true => (CR4_PKE, self.keys.user),
            false => (CR4_PKS, self.keys.supervisor),
        };
        if self.efer & EFER_LMA == 0 || self.cr4 & enabled == 0 {
            return true;
        }
        let Some(keys) = keys else { return false };
        let bits = keys >> (2 * (leaf >> KEY_SHIFT & 0xf));
        let (access_disable, write_disable) = (bits & 1 != 0, bits & 2 != 0);
        let obeys_write_disable = self.supervisor == Supervisor::No || self.cr0 & CR0_WP != 0;
        let writes = access == Access::Write;
        !(access_disable || write_disable && writes && obeys_write_disable)
    }
}

/// What all levels together allow.
#[derive(Clone, Copy)]
struct Rights {
    user: bool,
    writable: bool,
}

impl Rights {
    const ALL: Rights = Rights { user: true, writable: true };

    /// One level more, which must be present and accessed.
    fn and(self, entry: u64) -> Result<Rights, NeedsFault> {
        if entry & PRESENT == 0 || entry & ACCESSED == 0 {
            return Err(NeedsFault);
        }
        Ok(Rights {
            user: self.user && entry & USER != 0,
            writable: self.writable && entry & WRITABLE != 0,
        })
    }
}

#[cfg(test)]
mod tests;
