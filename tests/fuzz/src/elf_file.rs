//! Intact ELF files around arbitrary sections, so that those get as far as their reader.

use std::ops::Range;

/// The addresses of the code.
const CODE: Range<u64> = 0x1000..0x1200;

/// Addresses to look up: in the code, and around it.
pub const PLACES: [u64; 10] =
    [0, CODE.start - 1, CODE.start, 0x1001, 0x1004, 0x1010, 0x1024, 0x1100, CODE.end - 1, CODE.end];

/// The sections, by the number in the data.
const SECTIONS: [&str; 16] = [
    ".debug_info",
    ".debug_abbrev",
    ".debug_line",
    ".debug_str",
    ".debug_line_str",
    ".debug_aranges",
    ".debug_ranges",
    ".debug_rnglists",
    ".debug_addr",
    ".debug_str_offsets",
    ".debug_types",
    ".debug_loclists",
    ".debug_cu_index",
    ".note.gnu.build-id",
    ".gnu_debuglink",
    ".debug_frame",
];

const HEADER: usize = 64;
const SECTION_HEADER: usize = 64;

/// A section: the name, the type, flags, the address, the link, the size of an entry, and the contents.
type Section<'a> = (&'a str, u32, u64, u64, u32, u64, Vec<u8>);

/// Makes a 64-bit ELF file of arbitrary bytes: a function in code of zeros, and sections.
///
/// Each section has a byte for its name, two for the length, and the contents.
pub fn elf_file(mut data: &[u8]) -> Vec<u8> {
    const PROGBITS: u32 = 1;
    const SYMTAB: u32 = 2;
    const STRTAB: u32 = 3;
    const NOTE: u32 = 7;
    let size = CODE.end - CODE.start;
    // The null symbol, and a global function in section 1.
    let mut symbols = vec![0; 24];
    symbols.extend([1, 0, 0, 0, 0x12, 0, 1, 0]);
    symbols.extend(CODE.start.to_le_bytes());
    symbols.extend(size.to_le_bytes());
    let mut sections: Vec<Section<'_>> = vec![
        ("", 0, 0, 0, 0, 0, Vec::new()),
        (".text", PROGBITS, 6, CODE.start, 0, 0, vec![0; size as usize]),
        (".symtab", SYMTAB, 0, 0, 3, 24, symbols),
        (".strtab", STRTAB, 0, 0, 0, 0, b"\0main\0".to_vec()),
    ];
    while let Some((&[name, low, high], after)) = data.split_first_chunk() {
        let (contents, after) =
            after.split_at(usize::from(u16::from_le_bytes([low, high])).min(after.len()));
        let name = SECTIONS[usize::from(name) % SECTIONS.len()];
        let kind = if name.starts_with(".note") { NOTE } else { PROGBITS };
        sections.push((name, kind, 0, 0, 0, 0, contents.to_vec()));
        data = after;
    }
    let names_index = sections.len();
    sections.push((".shstrtab", STRTAB, 0, 0, 0, 0, Vec::new()));
    let mut names = Vec::new();
    let name_offsets: Vec<usize> = sections
        .iter()
        .map(|(name, ..)| {
            names.extend(name.bytes().chain([0]));
            names.len() - name.len() - 1
        })
        .collect();
    sections[names_index].6 = names;
    let (mut file, mut headers) = (vec![0; HEADER], Vec::new());
    for ((_, kind, flags, address, link, entry_size, contents), name) in
        sections.iter().zip(name_offsets)
    {
        headers.extend((name as u32).to_le_bytes());
        headers.extend(kind.to_le_bytes());
        for number in [*flags, *address, file.len() as u64, contents.len() as u64] {
            headers.extend(number.to_le_bytes());
        }
        headers.extend(link.to_le_bytes());
        headers.extend([0; 4]);
        headers.extend(1u64.to_le_bytes());
        headers.extend(entry_size.to_le_bytes());
        file.extend(contents);
    }
    let sections_at = file.len().next_multiple_of(8);
    file.resize(sections_at, 0);
    file.extend(headers);
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    for half in [2u16, 0x3e, 1, 0] {
        header.extend(half.to_le_bytes());
    }
    for word in [CODE.start, 0, sections_at as u64] {
        header.extend(word.to_le_bytes());
    }
    header.extend([0; 4]);
    let counts = [HEADER, 56, 0, SECTION_HEADER, sections.len(), names_index];
    counts.iter().for_each(|&half| header.extend((half as u16).to_le_bytes()));
    file[..HEADER].copy_from_slice(&header);
    file
}
