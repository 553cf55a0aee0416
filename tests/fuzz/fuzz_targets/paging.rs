#![no_main]
//! Page-table walks, against another implementation, which collects the entries first and then judges them.

use libfuzzer_sys::fuzz_target;
use pvio_x86::{
    Access, Cr0, Cr4, Efer, KeyRights, Mode, NeedsFault, Paging, PhysicalMemory, Rflags, Supervisor,
};

/// Physical memory that repeats a few entries, so that arbitrary tables lead somewhere. Some addresses have none.
struct Memory<'a>(&'a [u8]);

impl PhysicalMemory for Memory<'_> {
    fn read_u32(&self, physical: u64) -> Option<u32> {
        assert_eq!(physical % 4, 0, "an entry is aligned");
        self.entry(physical).map(|entry| entry as u32)
    }

    fn read_u64(&self, physical: u64) -> Option<u64> {
        assert_eq!(physical % 8, 0, "an entry is aligned");
        self.entry(physical)
    }
}

impl Memory<'_> {
    fn entry(&self, physical: u64) -> Option<u64> {
        let entries = self.0.len() as u64 / 8;
        if entries == 0 || physical >> 40 == 0xfff {
            return None;
        }
        let at = (physical ^ physical >> 12) % entries * 8;
        let bytes = self.0[at as usize..][..8].try_into().expect("eight bytes");
        Some(u64::from_le_bytes(bytes))
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((head, memory)) = data.split_first_chunk::<48>() else { return };
    let number = |at: usize| u64::from_le_bytes(*head[8 * at..].first_chunk().expect("in bounds"));
    let flags = number(5);
    let paging = Paging {
        cr0: Cr0::from_bits_retain(number(0) | Cr0::PAGING.bits()),
        cr3: number(1),
        cr4: Cr4::from_bits_retain(number(2)),
        efer: Efer::from_bits_retain(number(3)),
        rflags: Rflags::from_bits_retain(flags & 1 << 18),
        supervisor: if flags & 1 == 0 { Supervisor::Yes } else { Supervisor::No },
        keys: KeyRights {
            user: (flags & 2 == 0).then_some((flags >> 32) as u32),
            supervisor: (flags & 4 == 0).then_some((flags >> 24) as u32),
        },
    };
    let is_long = paging.efer.contains(Efer::LONG_MODE_ACTIVE);
    let linear = if is_long { number(4) } else { number(4) & 0xffff_ffff };
    let memory = Memory(memory);
    for access in [Access::Read, Access::Write] {
        let found = paging.translate(linear, access, &memory);
        let expected = reference(&paging, linear, access, &memory).ok_or(NeedsFault);
        assert_eq!(found, expected, "{paging:x?}: {access:?} at {linear:#x}");
    }
    for mode in Mode::ALL {
        paging.is_canonical(linear, mode);
    }
});

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
const ACCESSED: u64 = 0x20;
const DIRTY: u64 = 0x40;
const LARGE: u64 = 0x80;

/// SDM vol. 3, chapter 5. `None` if the access faults, or would set a bit, or is not decided.
fn reference(paging: &Paging, linear: u64, access: Access, memory: &Memory<'_>) -> Option<u64> {
    let cr4 = |bit: u32| paging.cr4.bits() >> bit & 1 != 0;
    let (pae, la57) = (cr4(5), cr4(12));
    let long = paging.efer.bits() >> 10 & 1 != 0;
    let nxe = paging.efer.bits() >> 11 & 1 != 0;
    // The widths of the indices, from the top; the bits of CR3; the size of an entry.
    let (levels, index_bits, entry_size, mut table) = match (pae, long) {
        (false, _) => (2, 10, 4, paging.cr3 & 0xffff_f000),
        (true, false) => (2, 9, 8, 0),
        (true, true) => (if la57 { 5 } else { 4 }, 9, 8, paging.cr3 & 0x000f_ffff_ffff_f000),
    };
    if pae && !long {
        let pointer = memory.read_u64((paging.cr3 & 0xffff_ffe0) + (linear >> 30 & 3) * 8)?;
        // QEMU sets bit 5, which is reserved, so it is not looked at.
        if pointer & PRESENT == 0 || pointer & (0x1e6 & !ACCESSED) != 0 || pointer >> 63 != 0 {
            return None;
        }
        table = pointer & 0x000f_ffff_ffff_f000;
    }
    let mut entries = Vec::new();
    let mut level = levels;
    let (base, offset_bits) = loop {
        level -= 1;
        let low = 12 + index_bits * level;
        let index = linear >> low & ((1 << index_bits) - 1);
        let entry = match entry_size {
            4 => u64::from(memory.read_u32(table + index * 4)?),
            _ => memory.read_u64(table + index * 8)?,
        };
        if entry & PRESENT == 0 || entry & ACCESSED == 0 {
            return None;
        }
        if entry_size == 8 && entry >> 63 != 0 && !nxe {
            return None;
        }
        entries.push(entry);
        let large = level > 0 && entry & LARGE != 0 && (pae || cr4(4));
        if entry_size == 4 {
            if large {
                if entry >> 21 & 1 != 0 {
                    return None;
                }
                break ((entry >> 22 & 0x3ff) << 22 | (entry >> 13 & 0xff) << 32, 22);
            }
            if level == 0 {
                break (entry & 0xffff_f000, 12);
            }
            table = entry & 0xffff_f000;
            continue;
        }
        let address = entry & 0x000f_ffff_ffff_f000;
        if large {
            // Only a directory and a directory pointer table map pages. Bit 12 is PAT, other low bits are reserved.
            if level > 2 || (address & ((1 << low) - 1)) >> 13 != 0 {
                return None;
            }
            break (address >> low << low, low);
        }
        if level == 0 {
            break (address, 12);
        }
        table = address;
    };
    let all = |bit: u64| entries.iter().all(|entry| entry & bit != 0);
    let (user_page, writable) = (all(USER), all(WRITABLE));
    let leaf = *entries.last()?;
    let writes = access == Access::Write;
    let write_protect = paging.cr0.bits() >> 16 & 1 != 0;
    let is_user = paging.supervisor == Supervisor::No;
    if is_user && !user_page {
        return None;
    }
    if !is_user && user_page && cr4(21) && paging.rflags.bits() >> 18 & 1 == 0 {
        return None;
    }
    if writes && (!writable && (is_user || write_protect) || leaf & DIRTY == 0) {
        return None;
    }
    let keys = if user_page { paging.keys.user } else { paging.keys.supervisor };
    if long && cr4(if user_page { 22 } else { 24 }) {
        let rights = keys? >> (2 * (leaf >> 59 & 15)) & 3;
        if rights & 1 != 0 || writes && rights & 2 != 0 && (is_user || write_protect) {
            return None;
        }
    }
    Some(base | linear & ((1 << offset_bits) - 1))
}
