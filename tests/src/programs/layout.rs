//! The guest's memory: the layout in `tests/guests/differ.inc`, and the tests' segments and pages.

use super::CodeKind;

/// The size of the guest's memory.
pub const RAM: u64 = 64 << 20;

/// The address of the guest's parameters.
///
/// They are the addresses of the first record and the first result, the number of programs, and the page
/// tables of protected mode or 0.
pub const START: u64 = 0x500;
pub const WORK: u64 = 0x1000;
pub const GDT: u64 = 0xa000;
pub const PAGE_TABLES: u64 = 0x20_0000;
pub const PROTECTED_PAGE_TABLES: u64 = 0x40_0000;
pub const RECORDS: u64 = 0x100_0000;
pub const RESULTS: u64 = 0x200_0000;

pub const RECORD_SIZE: usize = 0x180;
pub const CODE_SIZE: usize = 0x38;
pub const WINDOWS_COUNT: usize = 4;
pub const RESULT_SIZE: usize = 0xc0;

/// The programs' code: two pages with one border.
pub const CODE: std::ops::Range<u64> = 0x8000..0xa000;
/// The distances from [`CODE`] at which a program may run on the same physical pages.
///
/// The code segment has the same base, and IP reaches them.
pub fn distances(kind: CodeKind) -> &'static [u64] {
    match kind {
        // Paging is off.
        CodeKind::Real => &[0],
        CodeKind::Long64 => &[0, 0x1_0000_0000, 0xffff_ffff_8000_0000],
        _ if kind.bits() == 32 => &[0, 0x3000, 0x4000_0000],
        _ => &[0, 0x3000, 0x5000],
    }
}

/// The page of [`CODE`] to which an alias is mapped.
fn alias(page: u64) -> Option<u64> {
    CodeKind::ALL.iter().flat_map(|&kind| distances(kind)).find_map(|&distance| {
        let home = page.wrapping_sub(distance >> 12);
        (distance != 0 && (CODE.start >> 12..CODE.end >> 12).contains(&home)).then_some(home)
    })
}

/// The memory that programs read and write. It starts with random contents.
pub const ARENA: std::ops::Range<u64> = 0x1_0000..0x9_0000;

/// Selectors of code segments, with base 0 and with another, for 16-bit and 32-bit code.
pub const CODE16: [(u16, u64); 2] = [(0x40, 0), (0x48, 0x7ff0)];
pub const CODE32: [(u16, u64); 2] = [(0x50, 0), (0x58, 0x6543)];
pub const CODE64: (u16, u64) = (0x18, 0);
/// Selectors of data segments of 4 GiB each.
///
/// In the last, only offsets that wrap around at 32 bits reach the arena.
pub const DATA: [(u16, u64); 8] = [
    (0x60, 0),
    (0x68, 0x1_0000),
    (0x70, 0x1_fff1),
    (0x78, 0x2_3456),
    (0x80, 0x4_0010),
    (0x88, 0x6_ffff),
    (0x90, 0x7_8003),
    (0x98, 0xfffe_0010),
];

/// The guest's own descriptors, as in `common.inc`; the last is its TSS.
const RUNNER_DESCRIPTORS: [u64; 7] = [
    0,
    0x00cf_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x0020_9b00_0000_0000,
    0x0000_9b0f_0000_ffff,
    0x0000_9300_0000_ffff,
    // At 0x3000, with a bitmap of 8 KiB and a byte of ones after it.
    0x0000_8900_3000_2068,
];

/// The GDT.
pub fn descriptors() -> Vec<u64> {
    let mut gdt = RUNNER_DESCRIPTORS.to_vec();
    let mut put = |selector: u16, base: u64, attributes: u64| {
        let place = usize::from(selector / 8);
        gdt.resize(gdt.len().max(place + 1), 0);
        let base = (base & 0xff_ffff) << 16 | (base >> 24) << 56;
        gdt[place] = base | attributes | 0x000f_0000_0000_ffff;
    };
    CODE16.iter().for_each(|&(selector, base)| put(selector, base, 0x0080_9b00_0000_0000));
    CODE32.iter().for_each(|&(selector, base)| put(selector, base, 0x00c0_9b00_0000_0000));
    DATA.iter().for_each(|&(selector, base)| put(selector, base, 0x00c0_9300_0000_0000));
    gdt
}

/// The physical page of a linear page, in units of 4 KiB, in long mode.
///
/// Below 1 MiB it is the identity, except for page 0 and the aliases of code. Addresses that wrap around
/// cross from the last page of 32 or 64 bits to the first.
pub fn frame(page: u64) -> Option<u64> {
    const LAST_OF_64_BITS: u64 = u64::MAX >> 12;
    // 37 and the number of frames have no common divisor, so adjacent pages have distant frames.
    let scattered = |page: u64| (ARENA.start >> 12) + page * 37 % ((ARENA.end - ARENA.start) >> 12);
    match page {
        _ if alias(page).is_some() => alias(page),
        0 => Some(0x88),
        0x1..0x100 => Some(page),
        0x200..0x300 if page % 3 == 2 => None,
        0x200..0x380 => Some(scattered(page)),
        0xf_ffff => Some(0x89),
        LAST_OF_64_BITS => Some(0x8a),
        _ => None,
    }
}

/// Scattered pages, all present.
pub const SCATTERED: std::ops::Range<u64> = 0x30_0000..0x38_0000;
/// Scattered pages, of which every third is missing.
pub const WITH_HOLES: std::ops::Range<u64> = 0x20_0000..0x30_0000;

/// The physical address of a linear address; `None` if the page is missing.
pub fn physical(kind: CodeKind, linear: u64) -> Option<u64> {
    match kind.is_long() {
        true => Some(frame(linear >> 12)? << 12 | linear & 0xfff),
        false => Some(linear),
    }
}

/// Present, writable, user, accessed and dirty.
const USED: u64 = 0x67;
const LARGE: u64 = 0x80;

/// The page tables of protected mode (PAE), for [`PROTECTED_PAGE_TABLES`].
///
/// They are the identity, except for the aliases of code.
pub fn protected_page_tables() -> Vec<u64> {
    let table = |number: u64| PROTECTED_PAGE_TABLES + 0x1000 * number;
    let mut pointers: Vec<u64> = (1..=4).map(|directory| table(directory) | 1).collect();
    pointers.resize(512, 0);
    let mut directories: Vec<u64> = (0..4 * 512).map(|page| page << 21 | LARGE | USED).collect();
    directories[0] = table(5) | USED;
    // The first 2 MiB again.
    directories[0x4000_0000 >> 21] = LARGE | USED;
    let low = (0..512).map(|page| alias(page).unwrap_or(page) << 12 | USED);
    pointers.into_iter().chain(directories).chain(low).collect()
}

/// The page tables of long mode, for [`PAGE_TABLES`].
pub fn page_tables() -> Vec<u64> {
    let mut tables = vec![0; 512];
    let aliases = CodeKind::ALL.iter().flat_map(|&kind| distances(kind)).flat_map(|&distance| {
        (CODE.start >> 12..CODE.end >> 12).map(move |page| page.wrapping_add(distance >> 12))
    });
    let pages = (0..0x400).chain([0xf_ffff, u64::MAX >> 12]).chain(aliases);
    for (page, frame) in pages.filter_map(|page| Some((page, frame(page)?))) {
        let mut table = 0;
        for level in [27, 18, 9] {
            let place = table + (page >> level & 511) as usize;
            if tables[place] == 0 {
                tables[place] = (PAGE_TABLES + 8 * tables.len() as u64) | USED;
                tables.resize(tables.len() + 512, 0);
            }
            table = ((tables[place] & !0xfff) - PAGE_TABLES) as usize / 8;
        }
        tables[table + (page & 511) as usize] = frame << 12 | USED;
    }
    tables
}
