//! Page tables written by hand, and the translations that the manual specifies for them.

mod rights;

use std::collections::HashMap;

use super::*;

/// Physical memory that holds page tables and nothing else.
#[derive(Default)]
struct Tables(HashMap<u64, u64>);

impl Tables {
    fn with(entries: &[(u64, u64)]) -> Tables {
        Tables(entries.iter().copied().collect())
    }
}

impl PhysicalMemory for Tables {
    fn read_u32(&self, physical: u64) -> Option<u32> {
        self.0.get(&physical).map(|&entry| entry as u32)
    }

    fn read_u64(&self, physical: u64) -> Option<u64> {
        self.0.get(&physical).copied()
    }
}

const PAE: Cr4 = Cr4::PHYSICAL_ADDRESS_EXTENSION;
const LONG: Efer = Efer::LONG_MODE_ACTIVE.union(Efer::NO_EXECUTE_ENABLE);

const PRESENT: u64 = EntryFlags::PRESENT.bits();
const WRITABLE: u64 = EntryFlags::WRITABLE.bits();
const USER: u64 = EntryFlags::USER.bits();
const ACCESSED: u64 = EntryFlags::ACCESSED.bits();
const DIRTY: u64 = EntryFlags::DIRTY.bits();
const LARGE: u64 = EntryFlags::LARGE.bits();
const NO_EXECUTE: u64 = EntryFlags::NO_EXECUTE.bits();
/// The flags of a page that anyone may use.
const ALL: u64 = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;

fn paging(cr4: Cr4, efer: Efer, supervisor: Supervisor) -> Paging {
    Paging {
        cr0: Cr0::PROTECTION_ENABLE | Cr0::PAGING,
        cr3: 0x1000,
        cr4,
        efer,
        rflags: Rflags::empty(),
        supervisor,
        keys: KeyRights::default(),
    }
}

/// Page tables of 4 levels that map linear 0x7f80_4020_3000 by the entry `leaf`, and that address.
fn four_levels(leaf: u64, above: u64) -> (Tables, u64) {
    let linear = 255 << 39 | 1 << 21 | 3 << 12;
    let entries = [
        (0x1000 + 8 * 255, 0x2000 | above),
        (0x2000, 0x3000 | above),
        (0x3000 + 8, 0x4000 | above),
        (0x4000 + 8 * 3, leaf),
    ];
    (Tables::with(&entries), linear)
}

#[test]
fn without_paging_the_linear_address_is_physical() {
    let paging = Paging {
        cr0: Cr0::PROTECTION_ENABLE,
        ..paging(Cr4::empty(), Efer::empty(), Supervisor::Yes)
    };
    assert_eq!(paging.translate(0xfee1_dead, Access::Write, &Tables::default()), Ok(0xfee1_dead));
}

#[test]
fn two_levels_map_4_kib_and_4_mib_pages() {
    let tables = Tables::with(&[
        (0x1000 + 4 * 3, 0x2000 | ALL),
        (0x2000 + 4 * 5, 0x00ab_c000 | ALL),
        (0x1000 + 4 * 4, 0x0780_0000 | 0x55 << 13 | LARGE | ALL),
        (0x1000 + 4 * 6, 1 << 21 | LARGE | ALL),
    ]);
    let small = 3 << 22 | 5 << 12 | 0x123;
    let large = 4 << 22 | 0x3f_0007;
    for cr4 in [Cr4::empty(), Cr4::PAGE_SIZE_EXTENSIONS] {
        let paging = paging(cr4, Efer::empty(), Supervisor::No);
        assert_eq!(paging.translate(small, Access::Write, &tables), Ok(0x00ab_c123));
        let expected = match cr4.is_empty() {
            // Without PSE the entry points to a page table, where nothing is mapped.
            true => Err(NeedsFault),
            false => Ok(0x55_07bf_0007),
        };
        assert_eq!(paging.translate(large, Access::Read, &tables), expected);
        assert!(paging.translate(6 << 22, Access::Read, &tables).is_err(), "a reserved bit");
        assert!(paging.translate(0, Access::Read, &tables).is_err(), "no memory there");
    }
}

#[test]
fn pae_pointers_carry_no_rights() {
    let tables = Tables::with(&[
        (0x1000 + 8 * 3, 0x2000 | PRESENT),
        (0x2000 + 8 * 7, 0x3000 | ALL),
        (0x3000 + 8 * 9, 0x000f_1234_5678_9000 | ALL),
        (0x2000 + 8 * 8, 0x1_0020_0000 | LARGE | ALL | 1 << 12),
        (0x1000 + 8 * 2, 0x2000 | PRESENT | ACCESSED),
        (0x1000, 0x2000 | PRESENT | WRITABLE),
        // QEMU sets the accessed bit in a pointer.
        (0x1000 + 8, 0x2000 | PRESENT | ACCESSED),
    ]);
    let paging = paging(PAE, Efer::empty(), Supervisor::No);
    let linear = |directory: u64, table: u64| 3 << 30 | directory << 21 | table << 12 | 0xabc;
    let small = paging.translate(linear(7, 9), Access::Write, &tables);
    assert_eq!(small, Ok(0x000f_1234_5678_9abc));
    assert_eq!(paging.translate(linear(8, 511), Access::Read, &tables), Ok(0x1_003f_fabc));
    let marked = 2 << 30 | 7 << 21 | 9 << 12;
    assert_eq!(paging.translate(marked, Access::Read, &tables), Ok(0x000f_1234_5678_9000));
    assert!(paging.translate(7 << 21 | 9 << 12, Access::Read, &tables).is_err(), "reserved bits");
    let walked = paging.translate(1 << 30 | 7 << 21 | 9 << 12, Access::Read, &tables);
    assert_eq!(walked, Ok(0x000f_1234_5678_9000));
}

#[test]
fn four_and_five_levels_map_4_kib_pages() {
    let (tables, linear) = four_levels(0xdead_b000 | ALL | NO_EXECUTE, ALL);
    let four = paging(PAE, LONG, Supervisor::No);
    assert_eq!(four.translate(linear | 0xef, Access::Write, &tables), Ok(0xdead_b0ef));
    let without_nx = Paging { efer: Efer::LONG_MODE_ACTIVE, ..four };
    assert!(without_nx.translate(linear, Access::Read, &tables).is_err());

    let mut tables = tables;
    tables.0.insert(0x8000 + 8 * 256, 0x1000 | ALL);
    let five = Paging { cr3: 0x8000, cr4: PAE | Cr4::LINEAR_ADDRESS_57, ..four };
    let high = !0 << 56 | linear;
    assert_eq!(five.translate(high, Access::Write, &tables), Ok(0xdead_b000));
}

#[test]
fn four_levels_map_2_mib_and_1_gib_pages() {
    let tables = Tables::with(&[
        (0x1000, 0x2000 | ALL),
        (0x2000 + 8, 0x40_4000_0000 | LARGE | ALL),
        (0x2000 + 16, 0x4020_0000 | LARGE | ALL),
        (0x2000, 0x3000 | ALL),
        (0x3000, 0x1_0020_0000 | LARGE | ALL | 1 << 12),
        (0x3000 + 8, 0x1_0020_2000 | LARGE | ALL),
        (0x1000 + 8, 0x2000 | LARGE | ALL),
    ]);
    let paging = paging(PAE, LONG, Supervisor::Yes);
    let to = |linear| paging.translate(linear, Access::Write, &tables);
    assert_eq!(to(1 << 30 | 0x3456_7890), Ok(0x40_7456_7890));
    assert!(to(2 << 30).is_err(), "bit 21 is reserved in a 1 GiB page");
    assert_eq!(to(0x1f_ffff), Ok(0x1_003f_ffff));
    assert!(to(1 << 21).is_err(), "bit 13 is reserved in a 2 MiB page");
    assert!(to(1 << 39).is_err(), "there are no 512 GiB pages");
}

#[test]
fn canonical_addresses_have_32_48_or_57_bits() {
    let four = paging(PAE, LONG, Supervisor::Yes);
    let five = Paging { cr4: PAE | Cr4::LINEAR_ADDRESS_57, ..four };
    for (linear, in_32, in_48, in_57) in [
        (0xffff_ffff, true, true, true),
        (1 << 32, false, true, true),
        ((1 << 47) - 1, false, true, true),
        (1 << 47, false, false, true),
        (!0 << 47, false, true, true),
        (1 << 56, false, false, false),
        (!0 << 56, false, false, true),
        (u64::MAX, false, true, true),
    ] {
        assert_eq!(four.is_canonical(linear, Mode::Bits32), in_32, "{linear:#x}");
        assert_eq!(four.is_canonical(linear, Mode::Bits64), in_48, "{linear:#x}");
        assert_eq!(five.is_canonical(linear, Mode::Bits64), in_57, "{linear:#x}");
    }
}
