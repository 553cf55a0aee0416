//! The executable sections of an ELF file, as address ranges for `insns=FILE`.

use std::path::PathBuf;

use crate::elf::{Elf, ElfError};
use crate::guest_file::{GuestFile, GuestFileError};

/// The maximum number of sections that are counted separately.
pub const MAX_SECTIONS: usize = 64;

/// A file that has no usable sections.
#[derive(Debug, thiserror::Error)]
pub enum SectionsError {
    /// The file cannot be opened.
    #[error("{0}")]
    File(#[from] GuestFileError),
    /// The file is not an ELF file.
    #[error("{0} is not an ELF file; name the guest's linked ELF file")]
    NotElf(PathBuf),
    /// The ELF file is unusable.
    #[error("{path} {source}")]
    Elf {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: ElfError,
    },
    /// The file is position independent, and no address is given.
    #[error(
        "{0} is position independent; write insns={0}@ADDRESS, with the address at which it is loaded"
    )]
    NeedsAddress(String),
    /// The file has no executable sections.
    #[error("{0} has no executable sections; name an ELF file with a section table")]
    None(PathBuf),
    /// The file has more than [`MAX_SECTIONS`].
    #[error(
        "{0} has {1} executable sections, and pvio counts at most {MAX_SECTIONS} separately; name a file with fewer"
    )]
    TooMany(PathBuf, usize),
}

/// An address range of guest code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The section's name.
    pub name: String,
    /// The linear address of the first byte.
    pub start: u64,
    /// The linear address after the last byte.
    pub end: u64,
}

/// Sections, sorted by address; they do not overlap.
#[derive(Clone, Debug, Default)]
pub struct Sections(Vec<Section>);

impl Sections {
    /// Reads the executable sections of an ELF file.
    ///
    /// # Errors
    ///
    /// The file is not an ELF file for x86, has no sections or too many, or needs a load address.
    pub fn load(guest_file: &GuestFile) -> Result<Sections, SectionsError> {
        let file = guest_file.open("name an ELF file")?;
        let GuestFile { text, path, load_offset } = guest_file.clone();
        if !Elf::has_magic(&file) {
            return Err(SectionsError::NotElf(path));
        }
        let elf = match Elf::read(file) {
            Ok(elf) => elf,
            Err(source) => return Err(SectionsError::Elf { path, source }),
        };
        match elf.code.len() {
            0 => return Err(SectionsError::None(path)),
            len if len > MAX_SECTIONS => return Err(SectionsError::TooMany(path, len)),
            _ => {}
        }
        if elf.position_independent && load_offset.is_none() {
            return Err(SectionsError::NeedsAddress(text));
        }
        let section = |section: crate::elf::CodeSection| {
            let start = section.address.wrapping_add(load_offset.unwrap_or(0));
            Section { name: section.name, start, end: start.saturating_add(section.size) }
        };
        let mut sections: Vec<Section> = elf.code.into_iter().map(section).collect();
        sections.sort_by_key(|section| section.start);
        // Sections of a damaged file may overlap; the later one owns the shared part.
        for next in 1..sections.len() {
            sections[next - 1].end = sections[next - 1].end.min(sections[next].start);
        }
        Ok(Sections(sections))
    }

    /// Iterates in address order.
    pub fn iter(&self) -> std::slice::Iter<'_, Section> {
        self.0.iter()
    }

    /// The number of values of [`Sections::place`]: each section, and one for all other code.
    pub fn places(&self) -> usize {
        self.0.len() + 1
    }

    /// The index of the section at a linear address, or the number of sections if there is none.
    pub fn place(&self, pc: u64) -> usize {
        let after = self.0.partition_point(|section| section.start <= pc);
        match after.checked_sub(1) {
            Some(place) if pc < self.0[place].end => place,
            _ => self.0.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_one_section_or_to_other_code() {
        let section = |name: &str, start, end| Section { name: name.into(), start, end };
        let sections = Sections(vec![section("a", 10, 20), section("b", 20, 25)]);
        let places = [9, 10, 19, 20, 24, 25].map(|pc| sections.place(pc));
        assert_eq!(places, [2, 0, 0, 1, 1, 2]);
        assert_eq!((sections.places(), Sections::default().place(7)), (3, 0));
    }

    #[test]
    fn sections_of_this_program_move_with_the_load_address() {
        let load = |text: &str| Sections::load(&GuestFile::parse(text).unwrap());
        let own = std::env::current_exe().unwrap().display().to_string();
        let error = load(&own).unwrap_err().to_string();
        assert!(error.contains(&format!("write insns={own}@ADDRESS")), "{error}");
        let load_at = |address: u64| load(&format!("{own}@{address:#x}")).unwrap();
        let (linked, moved) = (load_at(0), load_at(0x4000_0000));
        assert!(linked.iter().any(|section| section.name == ".text"));
        assert!(linked.iter().zip(linked.iter().skip(1)).all(|(a, b)| a.end <= b.start));
        for (linked, moved) in linked.iter().zip(moved.iter()) {
            assert_eq!(linked.start + 0x4000_0000, moved.start);
            assert_eq!(linked.end + 0x4000_0000, moved.end);
        }
        assert!(matches!(load("/etc/passwd"), Err(SectionsError::NotElf(_))));
    }
}
