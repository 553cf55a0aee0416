//! The executable sections of an ELF file, by which instructions can be told apart.

use std::path::PathBuf;

use crate::elf::{Elf, ElfError};
use crate::guest_file::{GuestFile, GuestFileError};

/// The most sections that are told apart.
pub const MAX_SECTIONS: usize = 64;

/// A file that no sections can be taken from.
#[derive(Debug, thiserror::Error)]
pub enum SectionsError {
    /// It cannot be opened.
    #[error("{0}")]
    File(#[from] GuestFileError),
    /// It is not an ELF file.
    #[error("{0} is not an ELF file; name the guest's linked ELF file")]
    NotElf(PathBuf),
    /// It is an ELF file of which no code can be placed.
    #[error("{path} {source}")]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ElfError,
    },
    /// It runs at any address.
    #[error(
        "{0} is position independent; write insns={0}@ADDRESS, with the address at which it is loaded"
    )]
    NeedsAddress(String),
    /// It has no code, or no names of it.
    #[error("{0} has no executable sections; name an ELF file with a section table")]
    None(PathBuf),
    /// It has more than there is room for.
    #[error("{0} has {1} executable sections, of which {MAX_SECTIONS} can be told apart")]
    TooMany(PathBuf, usize),
}
/// A part of the guest's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name in the file.
    pub name: String,
    /// The linear address of its first byte.
    pub start: u64,
    /// The one behind its last.
    pub end: u64,
}

/// Sections, by address; they do not overlap.
#[derive(Clone, Debug, Default)]
pub struct Sections(Vec<Section>);

impl Sections {
    /// Those of an ELF file, `FILE` or `FILE@ADDRESS`, that the guest's memory holds when it runs, and that
    /// are executable.
    pub fn load(text: &str) -> Result<Sections, SectionsError> {
        let guest_file = GuestFile::parse(text)?;
        let file = guest_file.open("name an ELF file")?;
        let GuestFile { path, moved } = guest_file;
        if !Elf::is_one(&file) {
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
        if elf.position_independent && moved.is_none() {
            return Err(SectionsError::NeedsAddress(text.to_owned()));
        }
        let section = |section: crate::elf::CodeSection| {
            let start = section.address.wrapping_add(moved.unwrap_or(0));
            Section { name: section.name, start, end: start.saturating_add(section.size) }
        };
        let mut sections: Vec<Section> = elf.code.into_iter().map(section).collect();
        sections.sort_by_key(|section| section.start);
        // A broken file's may overlap: the later one has what is in both.
        for next in 1..sections.len() {
            sections[next - 1].end = sections[next - 1].end.min(sections[next].start);
        }
        Ok(Sections(sections))
    }
    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Section> {
        self.0.iter()
    }

    /// How many places [`Sections::place`] knows: each section, and elsewhere.
    pub fn places(&self) -> usize {
        self.0.len() + 1
    }

    /// The number of the section that an address is in; the one after the last, elsewhere.
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
    fn an_address_is_in_one_place() {
        let section = |name: &str, start, end| Section { name: name.into(), start, end };
        let sections = Sections(vec![section("a", 10, 20), section("b", 20, 25)]);
        let places = [9, 10, 19, 20, 24, 25].map(|pc| sections.place(pc));
        assert_eq!(places, [2, 0, 0, 1, 1, 2]);
        assert_eq!((sections.places(), Sections::default().place(7)), (3, 0));
    }

    #[test]
    fn the_code_of_a_program_is_in_text() {
        let own = std::env::current_exe().unwrap().display().to_string();
        let error = Sections::load(&own).unwrap_err().to_string();
        assert!(error.contains(&format!("write insns={own}@ADDRESS")), "{error}");
        let load = |address: u64| Sections::load(&format!("{own}@{address:#x}")).unwrap();
        let (linked, moved) = (load(0), load(0x4000_0000));
        assert!(linked.iter().any(|section| section.name == ".text"));
        assert!(linked.iter().zip(linked.iter().skip(1)).all(|(a, b)| a.end <= b.start));
        for (linked, moved) in linked.iter().zip(moved.iter()) {
            assert_eq!(linked.start + 0x4000_0000, moved.start);
            assert_eq!(linked.end + 0x4000_0000, moved.end);
        }
        assert!(matches!(Sections::load("/etc/passwd"), Err(SectionsError::NotElf(_))));
    }
}
