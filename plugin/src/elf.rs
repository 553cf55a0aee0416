//! ELF files of x86 code: their sections of code, and their symbols.
//!
//! Files are not trusted, and may be sparse: only the tables are read, and only up to a bound.

use std::fs::File;
use std::os::unix::fs::FileExt;

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader, Sym};
use object::{LittleEndian, ReadCache};

/// The most sections that a file may have.
const MAX_SECTIONS: usize = 1 << 16;
/// The most bytes that a table may have: 4 million symbols take 96 MiB.
const MAX_TABLE: u64 = 128 << 20;
/// The longest name of a section that is shown whole.
const MAX_SECTION_NAME: usize = 128;

/// A file that is not an ELF file of code that pvio can place.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It cannot be read on.
    #[error("is a broken ELF file ({0}); name a whole one")]
    Broken(#[from] object::Error),
    /// A table goes beyond what is read.
    #[error(
        "is an ELF file with more symbols or sections than pvio reads; strip what is not needed"
    )]
    TooLarge,
    /// It is another processor's.
    #[error("is an ELF file for another processor; name one for x86")]
    OtherProcessor,
    /// Its addresses are not those at which it runs.
    #[error("is an ELF file that is not linked; name the linked one")]
    Relocatable,
}

/// An executable section that is in memory when the file's code runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeSection {
    /// Its name.
    pub name: String,
    /// The address of its first byte, in the file.
    pub address: u64,
    /// Its length.
    pub size: u64,
    /// Where in the file its bytes are; `None` in a file that holds only debug information.
    pub offset: Option<u64>,
}

impl CodeSection {
    /// Where in the section an address of the file is.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        address.checked_sub(self.address).filter(|&offset| offset < self.size)
    }
}

/// A symbol, as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfSymbol {
    /// Its address.
    pub address: u64,
    /// Its size; 0 where the file does not say.
    pub size: u64,
    /// Where its name begins in [`ElfSymbols::names`].
    pub name: usize,
    /// Whether it can be a function or a label of code.
    pub may_be_code: bool,
    /// The [`Elf::code`] that it is in.
    pub section: Option<usize>,
}

/// All symbols.
#[derive(Debug, Default)]
pub struct ElfSymbols {
    /// In the file's order.
    pub symbols: Vec<ElfSymbol>,
    /// The names, each with a 0 after it.
    pub names: Vec<u8>,
}

/// An ELF file.
#[derive(Debug)]
pub struct Elf {
    /// The file.
    pub file: File,
    /// Whether it runs at any address, so that its own ones start at 0.
    pub position_independent: bool,
    /// Its code.
    pub code: Vec<CodeSection>,
    is_64: bool,
}

impl Elf {
    /// Whether a file begins as ELF files do.
    pub fn is_one(file: &File) -> bool {
        let mut magic = [0; 4];
        file.read_exact_at(&mut magic, 0).is_ok() && magic == elf::ELFMAG
    }

    /// Reads a file's header and sections.
    pub fn read(file: File) -> Result<Elf, ElfError> {
        let mut class = [0];
        let is_64 = file.read_exact_at(&mut class, 4).is_ok()
            && elf::FileClass(class[0]) == elf::ELFCLASS64;
        let (position_independent, code) = match is_64 {
            true => code_of::<FileHeader64<LittleEndian>>(&file)?,
            false => code_of::<FileHeader32<LittleEndian>>(&file)?,
        };
        Ok(Elf { file, position_independent, code: code.into_iter().flatten().collect(), is_64 })
    }

    /// Reads the symbols; there are none in a stripped file.
    pub fn symbols(&self) -> Result<ElfSymbols, ElfError> {
        match self.is_64 {
            true => symbols_of::<FileHeader64<LittleEndian>>(&self.file),
            false => symbols_of::<FileHeader32<LittleEndian>>(&self.file),
        }
    }
}

/// A header whose tables are within bounds.
fn header<'a, H: FileHeader<Endian = LittleEndian>>(
    data: &'a ReadCache<&File>,
) -> Result<&'a H, ElfError> {
    let header = H::parse(data)?;
    if header.is_big_endian()
        || ![elf::EM_386, elf::EM_IAMCU, elf::EM_X86_64].contains(&header.e_machine(LittleEndian))
    {
        return Err(ElfError::OtherProcessor);
    }
    if header.e_type(LittleEndian) == elf::ET_REL {
        return Err(ElfError::Relocatable);
    }
    if header.shnum(LittleEndian, data)? as usize > MAX_SECTIONS {
        return Err(ElfError::TooLarge);
    }
    Ok(header)
}

/// Whether the file is position independent, and for each section what it is if it is code.
fn code_of<H: FileHeader<Endian = LittleEndian>>(
    file: &File,
) -> Result<(bool, Vec<Option<CodeSection>>), ElfError> {
    let cache = ReadCache::new(file);
    let header = header::<H>(&cache)?;
    let headers = header.section_headers(LittleEndian, &cache)?;
    // Names are read one by one, because the table may be of any length.
    let names = headers.get(header.shstrndx(LittleEndian, &cache)? as usize);
    let names = names.map(|names| names.sh_offset(LittleEndian).into());
    let section = |header: &H::SectionHeader| {
        let size: u64 = header.sh_size(LittleEndian).into();
        (is_code::<H>(header) && size > 0).then(|| CodeSection {
            name: names
                .map(|names: u64| {
                    name_at(file, names.saturating_add(header.sh_name(LittleEndian).into()))
                })
                .unwrap_or_default(),
            address: header.sh_addr(LittleEndian).into(),
            size,
            offset: (header.sh_type(LittleEndian) != elf::SHT_NOBITS)
                .then(|| header.sh_offset(LittleEndian).into()),
        })
    };
    Ok((header.e_type(LittleEndian) == elf::ET_DYN, headers.iter().map(section).collect()))
}

fn is_code<H: FileHeader<Endian = LittleEndian>>(header: &H::SectionHeader) -> bool {
    let flags = header.sh_flags(LittleEndian);
    flags.contains(elf::SHF_ALLOC) && flags.contains(elf::SHF_EXECINSTR)
}

fn name_at(file: &File, offset: u64) -> String {
    let mut bytes = [0; MAX_SECTION_NAME];
    let len = file.read_at(&mut bytes, offset).unwrap_or(0);
    let name = bytes[..len].split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

fn symbols_of<H: FileHeader<Endian = LittleEndian>>(file: &File) -> Result<ElfSymbols, ElfError> {
    let cache = ReadCache::new(file);
    let header = header::<H>(&cache)?;
    let sections = header.sections(LittleEndian, &cache)?;
    let is_table = |section: &&H::SectionHeader| {
        [elf::SHT_SYMTAB, elf::SHT_SYMTAB_SHNDX].contains(&section.sh_type(LittleEndian))
    };
    if sections.iter().filter(is_table).any(|table| table.sh_size(LittleEndian).into() > MAX_TABLE)
    {
        return Err(ElfError::TooLarge);
    }
    let table = sections.symbols(LittleEndian, &cache, elf::SHT_SYMTAB)?;
    if table.is_empty() {
        return Ok(ElfSymbols::default());
    }
    let strings = sections.section(table.string_section())?;
    if strings.sh_size(LittleEndian).into() > MAX_TABLE {
        return Err(ElfError::TooLarge);
    }
    // By section, its number among those of code.
    let mut count = 0;
    let numbers: Vec<Option<usize>> = sections
        .iter()
        .map(|section| {
            let is_one = is_code::<H>(section) && section.sh_size(LittleEndian).into() > 0;
            is_one.then(|| {
                count += 1;
                count - 1
            })
        })
        .collect();
    let mut symbols = Vec::new();
    for (index, symbol) in table.enumerate() {
        let section = table.symbol_section(LittleEndian, symbol, index)?;
        let kind = symbol.st_type();
        if section.is_none() || [elf::STT_FILE, elf::STT_SECTION, elf::STT_TLS].contains(&kind) {
            continue;
        }
        symbols.push(ElfSymbol {
            address: symbol.st_value(LittleEndian).into(),
            size: symbol.st_size(LittleEndian).into(),
            name: symbol.st_name(LittleEndian) as usize,
            may_be_code: [elf::STT_FUNC, elf::STT_GNU_IFUNC, elf::STT_NOTYPE].contains(&kind),
            section: section.and_then(|section| *numbers.get(section.0)?),
        });
    }
    Ok(ElfSymbols { symbols, names: strings.data(LittleEndian, &cache)?.to_vec() })
}
