//! Page tables by hand, each of which a processor's manual says what comes of.

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

const PAGING: u64 = CR0_PG | 1;
/// Present, writable, for users, accessed, dirty.
const ALL: u64 = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;

fn paging(cr0: u64, cr4: u64, efer: u64, supervisor: Supervisor) -> Paging {
    Paging {
        cr0: cr0 | PAGING,
        cr3: 0x1000,
        cr4,
        efer,
        rflags: 2,
        supervisor,
        keys: KeyRights::default(),
    }
}

/// 4-level paging, and what leads to the last entry of linear 0x7f80_4020_3000, which is at 0x4018.
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

const LONG: u64 = EFER_LMA | EFER_NXE;

#[test]
fn without_paging_the_address_stays() {
    let paging = Paging { cr0: 1, ..paging(0, 0, 0, Supervisor::Yes) };
    assert_eq!(paging.translate(0xfee1_dead, Access::Write, &Tables::default()), Ok(0xfee1_dead));
}

#[test]
fn two_levels_and_4_mib_pages() {
    let tables = Tables::with(&[
        (0x1000 + 4 * 3, 0x2000 | ALL),
        (0x2000 + 4 * 5, 0x00ab_c000 | ALL),
        (0x1000 + 4 * 4, 0x0780_0000 | 0x55 << 13 | LARGE | ALL),
        (0x1000 + 4 * 6, 1 << 21 | LARGE | ALL),
    ]);
    let small = 3 << 22 | 5 << 12 | 0x123;
    let large = 4 << 22 | 0x3f_0007;
    for cr4 in [0, CR4_PSE] {
        let paging = paging(0, cr4, 0, Supervisor::No);
        assert_eq!(paging.translate(small, Access::Write, &tables), Ok(0x00ab_c123));
        let expected = match cr4 {
            // Then it is a page table, and there is nothing.
            0 => Err(NeedsFault),
            _ => Ok(0x55_07bf_0007),
        };
        assert_eq!(paging.translate(large, Access::Read, &tables), expected);
        assert!(paging.translate(6 << 22, Access::Read, &tables).is_err(), "a reserved bit");
        assert!(paging.translate(0, Access::Read, &tables).is_err(), "no memory there");
    }
}

#[test]
fn pae_has_four_pointers_without_rights() {
    let tables = Tables::with(&[
        (0x1000 + 8 * 3, 0x2000 | PRESENT),
        (0x2000 + 8 * 7, 0x3000 | ALL),
        (0x3000 + 8 * 9, 0x000f_1234_5678_9000 | ALL),
        (0x2000 + 8 * 8, 0x1_0020_0000 | LARGE | ALL | 1 << 12),
        (0x1000 + 8 * 2, 0x2000 | PRESENT | ACCESSED),
        (0x1000, 0x2000 | PRESENT | WRITABLE),
        // As QEMU leaves one that it has walked.
        (0x1000 + 8, 0x2000 | PRESENT | ACCESSED),
    ]);
    let paging = paging(0, CR4_PAE, 0, Supervisor::No);
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
fn four_and_five_levels() {
    let (tables, linear) = four_levels(0xdead_b000 | ALL | NO_EXECUTE, ALL);
    let four = paging(0, CR4_PAE, LONG, Supervisor::No);
    assert_eq!(four.translate(linear | 0xef, Access::Write, &tables), Ok(0xdead_b0ef));
    let without_nx = Paging { efer: EFER_LMA, ..four };
    assert!(without_nx.translate(linear, Access::Read, &tables).is_err());

    let mut tables = tables;
    tables.0.insert(0x8000 + 8 * 256, 0x1000 | ALL);
    let five = Paging { cr3: 0x8000, cr4: CR4_PAE | CR4_LA57, ..four };
    let high = !0 << 56 | linear;
    assert_eq!(five.translate(high, Access::Write, &tables), Ok(0xdead_b000));
}

#[test]
fn large_pages_of_four_levels() {
    let tables = Tables::with(&[
        (0x1000, 0x2000 | ALL),
        (0x2000 + 8, 0x40_4000_0000 | LARGE | ALL),
        (0x2000 + 16, 0x4020_0000 | LARGE | ALL),
        (0x2000, 0x3000 | ALL),
        (0x3000, 0x1_0020_0000 | LARGE | ALL | 1 << 12),
        (0x3000 + 8, 0x1_0020_2000 | LARGE | ALL),
        (0x1000 + 8, 0x2000 | LARGE | ALL),
    ]);
    let paging = paging(0, CR4_PAE, LONG, Supervisor::Yes);
    let to = |linear| paging.translate(linear, Access::Write, &tables);
    assert_eq!(to(1 << 30 | 0x3456_7890), Ok(0x40_7456_7890));
    assert!(to(2 << 30).is_err(), "bit 21 is reserved in a 1 GiB page");
    assert_eq!(to(0x1f_ffff), Ok(0x1_003f_ffff));
    assert!(to(1 << 21).is_err(), "bit 13 is reserved in a 2 MiB page");
    assert!(to(1 << 39).is_err(), "there are no 512 GiB pages");
}

/// Everything that decides whether an access is permitted, against the manual's own words.
#[test]
fn rights_are_those_of_the_manual() {
    let bits = [PRESENT, WRITABLE, USER, ACCESSED, DIRTY];
    let each = |pick: u32| -> u64 {
        bits.iter().enumerate().filter(|(n, _)| pick >> n & 1 != 0).map(|(_, bit)| bit).sum()
    };
    for case in 0..1u32 << 17 {
        let (leaf, above) = (each(case & 31), each(case >> 5 & 31));
        let flag = |bit: u32| case >> (10 + bit) & 1 != 0;
        let (wp, smap, ac, pke, pks) = (flag(0), flag(1), flag(2), flag(3), flag(4));
        let supervisor = if flag(5) { Supervisor::Yes } else { Supervisor::No };
        let access = if flag(6) { Access::Write } else { Access::Read };
        let cr4 = [(smap, CR4_SMAP), (pke, CR4_PKE), (pks, CR4_PKS)];
        let cr4: u64 = cr4.iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum();
        let paging = Paging {
            rflags: if ac { RFLAGS_AC } else { 2 },
            ..paging(if wp { CR0_WP } else { 0 }, CR4_PAE | cr4, LONG, supervisor)
        };
        let (tables, linear) = four_levels(0x9000 | leaf, above);

        let both = leaf & above;
        let is_user_page = both & USER != 0;
        let is_there = both & PRESENT != 0 && both & ACCESSED != 0;
        let is_written = access == Access::Write;
        let may = match (supervisor, is_user_page) {
            (Supervisor::No, false) => false,
            (Supervisor::No, true) => !is_written || both & WRITABLE != 0,
            (Supervisor::Yes, true) if smap && !ac => false,
            (Supervisor::Yes, _) => !is_written || both & WRITABLE != 0 || !wp,
        };
        let has_key = if is_user_page { pke } else { pks };
        let is_dirty = !is_written || leaf & DIRTY != 0;
        let expected = match is_there && may && !has_key && is_dirty {
            true => Ok(0x9000),
            false => Err(NeedsFault),
        };
        assert_eq!(paging.translate(linear, access, &tables), expected, "case {case:#x}");
    }
}

#[test]
fn addresses_have_as_many_bits_as_the_mode() {
    let four = paging(0, CR4_PAE, LONG, Supervisor::Yes);
    let five = Paging { cr4: CR4_PAE | CR4_LA57, ..four };
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

/// Protection keys, against the manual's own words, for every key and all that decides with it.
#[test]
fn keys_permit_what_the_manual_says() {
    for case in 0..1u32 << 12 {
        let flag = |bit: u32| case >> bit & 1 != 0;
        let (key, rights) = (case & 15, case >> 4 & 3);
        let (user_page, writes, wp, on) = (flag(6), flag(7), flag(8), flag(9));
        // A user may reach no page of the supervisor's, whatever its key.
        let supervisor = if flag(10) || !user_page { Supervisor::Yes } else { Supervisor::No };
        let known = flag(11);
        // All other keys permit the opposite.
        let register = if rights == 0 { !0 } else { 0 };
        let register = known.then_some(register & !(3 << (2 * key)) | rights << (2 * key));
        let nothing = Some(0);
        let paging = Paging {
            keys: match user_page {
                true => KeyRights { user: register, supervisor: nothing },
                false => KeyRights { user: nothing, supervisor: register },
            },
            ..paging(
                if wp { CR0_WP } else { 0 },
                CR4_PAE
                    | if !on {
                        0
                    } else if user_page {
                        CR4_PKE
                    } else {
                        CR4_PKS
                    },
                LONG,
                supervisor,
            )
        };
        let rest = if user_page { ALL } else { ALL & !USER };
        let (tables, linear) = four_levels(0x9000 | rest | u64::from(key) << 59, ALL);
        let access = if writes { Access::Write } else { Access::Read };
        let permitted = match rights {
            _ if !on => true,
            _ if !known => false,
            0 => true,
            // Write disable: always for users, for supervisors with CR0.WP.
            2 => !writes || supervisor == Supervisor::Yes && !wp,
            _ => false,
        };
        let expected = if permitted { Ok(0x9000) } else { Err(NeedsFault) };
        assert_eq!(paging.translate(linear, access, &tables), expected, "case {case:#x}");
    }
}
