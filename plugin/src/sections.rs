//! The executable sections of an ELF file, by which instructions can be told apart.

use std::io;
use std::path::{Path, PathBuf};

use object::{Object, ObjectKind, ObjectSection, SectionFlags, elf};

/// The most sections that are told apart.
pub const MAX_SECTIONS: usize = 64;

/// A file that no sections can be taken from.
#[derive(Debug, thiserror::Error)]
pub enum SectionsError {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}; name an ELF file")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is something else.
    #[error("{path} is no whole ELF file ({source}); name the guest's linked ELF file")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: object::Error,
    },
    /// Its addresses are not those at which it runs.
    #[error("{0} is an ELF file that is not linked; name the linked one")]
    Relocatable(PathBuf),
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
    /// Those of an ELF file that the guest's memory holds when it runs, and that are executable.
    pub fn load(path: &Path) -> Result<Sections, SectionsError> {
        let path_buf = || path.to_owned();
        let contents = std::fs::read(path)
            .map_err(|source| SectionsError::Read { path: path_buf(), source })?;
        let file = object::File::parse(&*contents)
            .map_err(|source| SectionsError::Broken { path: path_buf(), source })?;
        if file.kind() == ObjectKind::Relocatable {
            return Err(SectionsError::Relocatable(path_buf()));
        }
        let mut sections: Vec<Section> = file
            .sections()
            .filter(|section| {
                let wanted = elf::SHF_ALLOC | elf::SHF_EXECINSTR;
                matches!(section.flags(), SectionFlags::Elf { sh_flags, .. } if sh_flags & wanted == wanted)
                    && section.size() > 0
            })
            .map(|section| Section {
                name: String::from_utf8_lossy(section.name_bytes().unwrap_or_default()).into_owned(),
                start: section.address(),
                end: section.address().saturating_add(section.size()),
            })
            .collect();
        sections.sort_by_key(|section| section.start);
        // A broken file's may overlap: the later one has what is in both.
        for next in 1..sections.len() {
            sections[next - 1].end = sections[next - 1].end.min(sections[next].start);
        }
        match sections.len() {
            0 => Err(SectionsError::None(path_buf())),
            len if len > MAX_SECTIONS => Err(SectionsError::TooMany(path_buf(), len)),
            _ => Ok(Sections(sections)),
        }
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
        let sections = Sections::load(Path::new("/proc/self/exe")).unwrap();
        assert!(sections.iter().any(|section| section.name == ".text"));
        assert!(sections.iter().zip(sections.iter().skip(1)).all(|(a, b)| a.end <= b.start));
        assert!(matches!(
            Sections::load(Path::new("/etc/passwd")),
            Err(SectionsError::Broken { .. })
        ));
    }
}
