//! Reads the first page of an ELF file that the guest has mapped.

use std::fmt::Write;

use object::LittleEndian;
use object::elf::{ELF_NOTE_GNU, ELFCLASS64, FileHeader32, FileHeader64, NT_GNU_BUILD_ID, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

/// Maximum number of program headers.
const MOST_SEGMENTS: usize = 64;
/// The longest build id in bytes.
const LONGEST_ID: usize = 64;

/// An ELF file that the guest has mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedElf {
    /// The GNU build id in hexadecimal.
    pub build_id: String,
    /// The loaded segments: file offset, size in the file, linked address.
    segments: Vec<(u64, u64, u64)>,
}

impl MappedElf {
    /// Reads the headers and the build id. Returns `None` if the page lacks one of them.
    pub fn parse(page: &[u8]) -> Option<MappedElf> {
        match page.get(4)? {
            &class if class == ELFCLASS64.0 => parse::<FileHeader64<LittleEndian>>(page),
            _ => parse::<FileHeader32<LittleEndian>>(page),
        }
    }

    /// The linked address of an offset in the file.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        self.segments.iter().find_map(|&(start, size, address)| {
            let within = offset.checked_sub(start)?;
            (within < size).then(|| address.wrapping_add(within))
        })
    }
}

fn parse<H: FileHeader<Endian = LittleEndian>>(page: &[u8]) -> Option<MappedElf> {
    let header = H::parse(page).ok()?;
    (!header.is_big_endian()).then_some(())?;
    let headers = header.program_headers(LittleEndian, page).ok()?;
    (headers.len() <= MOST_SEGMENTS).then_some(())?;
    let notes = headers.iter().filter_map(|header| header.notes(LittleEndian, page).ok()?);
    let mut ids = notes.filter_map(|mut notes| {
        let mut notes = std::iter::from_fn(|| notes.next().ok()?);
        let note = notes.find(|note| {
            note.name() == ELF_NOTE_GNU && note.n_type(LittleEndian) == NT_GNU_BUILD_ID
        })?;
        (note.desc().len() <= LONGEST_ID).then(|| note.desc())
    });
    let mut build_id = String::new();
    for byte in ids.next()? {
        write!(build_id, "{byte:02x}").ok()?;
    }
    let loaded = headers.iter().filter(|header| header.p_type(LittleEndian) == PT_LOAD);
    let segments = loaded.map(|header| {
        let number = |word: H::Word| -> u64 { word.into() };
        (
            number(header.p_offset(LittleEndian)),
            number(header.p_filesz(LittleEndian)),
            number(header.p_vaddr(LittleEndian)),
        )
    });
    Some(MappedElf { build_id, segments: segments.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_the_build_id_and_the_addresses_of_its_file() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let elf = MappedElf::parse(&own[..4096]).unwrap();
        let file = object::File::parse(&*own).unwrap();
        use object::{Object, ObjectSection};
        let id: String =
            file.build_id().unwrap().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(elf.build_id, id);
        let text = file.section_by_name(".text").unwrap();
        let (offset, size) = text.file_range().unwrap();
        assert_eq!(elf.address_of(offset + 5), Some(text.address() + 5));
        assert_eq!(elf.address_of(offset + size - 1), Some(text.address() + size - 1));
        assert_eq!(elf.address_of(u64::MAX), None);
    }

    #[test]
    fn a_broken_page_tells_nothing() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let page = &own[..4096];
        let mut broken = page.to_vec();
        for at in 0..1024 {
            for value in [0, 0x7f, 0xff] {
                broken[at] = value;
                MappedElf::parse(&broken);
            }
            broken[at] = page[at];
        }
        for len in 0..1024 {
            MappedElf::parse(&page[..len]);
        }
        assert_eq!(MappedElf::parse(&[0; 4096]), None);
    }
}
