//! ELF files of x86 code: executable sections and symbols.
//!
//! Files are untrusted and may be sparse, so only tables are read, and only up to a size limit.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{CompressionHeader, FileHeader, SectionHeader, Sym};
use object::{CompressedData, CompressionFormat, LittleEndian, ReadCache};

/// The maximum number of sections in a file.
const MAX_SECTIONS: usize = 1 << 16;
/// The maximum size of a table in bytes: 4 million symbols take 96 MiB.
const MAX_TABLE: u64 = 128 << 20;
/// The maximum size of a section of notes in bytes.
const MAX_NOTES: u64 = 1 << 20;
/// The maximum size of a section that names a separate debug file, in bytes.
const MAX_LINK: u64 = 4096;
/// The maximum length of a section name in bytes; longer names are cut.
const MAX_SECTION_NAME: usize = 128;

/// An ELF file that pvio cannot use. The text continues a sentence that begins with the path.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// The file is damaged.
    #[error("is a damaged ELF file ({0}); name an intact one")]
    Broken(#[from] object::Error),
    /// A section ends after the file.
    #[error("is a damaged ELF file (it is cut off); name an intact one")]
    Truncated,
    /// A table exceeds the size limit.
    #[error(
        "is an ELF file with more symbols or sections than pvio reads; strip those that you do not need"
    )]
    TooLarge,
    /// The code is for another processor.
    #[error("is an ELF file for another processor; name one for x86")]
    OtherProcessor,
    /// The file is relocatable: its addresses are not run-time addresses.
    #[error("is an ELF file that is not linked; name the linked file")]
    Relocatable,
}

/// An executable section that is loaded into memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeSection {
    /// The name.
    pub name: String,
    /// The address of the first byte, as linked.
    pub address: u64,
    /// The size in bytes.
    pub size: u64,
    /// The file offset of the contents; `None` in a file with debug information alone.
    pub offset: Option<u64>,
}

impl CodeSection {
    /// The offset of a linked address in the section; `None` outside it.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        address.checked_sub(self.address).filter(|&offset| offset < self.size)
    }
}

/// An entry of the symbol table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfSymbol {
    /// The address, as linked.
    pub address: u64,
    /// The size in bytes; 0 if unknown.
    pub size: u64,
    /// The offset of the name in [`ElfSymbols::names`].
    pub name: usize,
    /// True if the symbol can be a function or a code label.
    pub may_be_code: bool,
    /// The index of its section in [`Elf::code`].
    pub section: Option<usize>,
}

/// The symbols of a file.
#[derive(Debug, Default)]
pub struct ElfSymbols {
    /// The symbols, in file order.
    pub symbols: Vec<ElfSymbol>,
    /// The names, each followed by a zero byte.
    pub names: Vec<u8>,
}

/// The name of a separate debug file: `.gnu_debuglink`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLink {
    /// The file's name, without directories.
    pub name: PathBuf,
    /// The CRC-32 of its contents.
    pub crc: u32,
}

/// An ELF file of x86 code.
#[derive(Debug)]
pub struct Elf {
    /// The open file.
    pub file: File,
    /// True if the code is position independent, with linked addresses from 0.
    pub position_independent: bool,
    /// The executable sections.
    pub code: Vec<CodeSection>,
    is_64: bool,
}

impl Elf {
    /// Returns true if a file starts with the ELF magic number.
    pub fn has_magic(file: &File) -> bool {
        let mut magic = [0; 4];
        file.read_exact_at(&mut magic, 0).is_ok() && magic == elf::ELFMAG
    }

    /// Reads the header and the executable sections.
    ///
    /// # Errors
    ///
    /// The file is not a linked ELF file for x86, or is damaged or too large.
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

    /// The GNU build id in hexadecimal, if the file has one.
    pub fn build_id(&self) -> Option<String> {
        match self.is_64 {
            true => build_id_of::<FileHeader64<LittleEndian>>(&self.file),
            false => build_id_of::<FileHeader32<LittleEndian>>(&self.file),
        }
    }

    /// The separate debug file that a stripped file names, if it names one.
    pub fn debug_link(&self) -> Option<DebugLink> {
        match self.is_64 {
            true => debug_link_of::<FileHeader64<LittleEndian>>(&self.file),
            false => debug_link_of::<FileHeader32<LittleEndian>>(&self.file),
        }
    }

    /// Reads the sections of DWARF, by name, as they are uncompressed.
    ///
    /// # Errors
    ///
    /// The file is damaged, or the sections have more than `limit` bytes.
    pub fn debug_sections(&self, limit: u64) -> Result<HashMap<String, Vec<u8>>, ElfError> {
        match self.is_64 {
            true => debug_sections_of::<FileHeader64<LittleEndian>>(&self.file, limit),
            false => debug_sections_of::<FileHeader32<LittleEndian>>(&self.file, limit),
        }
    }

    /// Reads the symbols. A stripped file has none.
    ///
    /// # Errors
    ///
    /// The tables are damaged or too large.
    pub fn symbols(&self) -> Result<ElfSymbols, ElfError> {
        match self.is_64 {
            true => symbols_of::<FileHeader64<LittleEndian>>(&self.file),
            false => symbols_of::<FileHeader32<LittleEndian>>(&self.file),
        }
    }
}

/// Reads and checks the file header.
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

/// Reads whether the file is position independent, and its sections in order, `None` for data.
fn code_of<H: FileHeader<Endian = LittleEndian>>(
    file: &File,
) -> Result<(bool, Vec<Option<CodeSection>>), ElfError> {
    let cache = ReadCache::new(file);
    let header = header::<H>(&cache)?;
    let headers = header.section_headers(LittleEndian, &cache)?;
    // Read names one by one: the string table may have any length.
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

fn build_id_of<H: FileHeader<Endian = LittleEndian>>(file: &File) -> Option<String> {
    let cache = ReadCache::new(file);
    let sections = header::<H>(&cache).ok()?.section_headers(LittleEndian, &cache).ok()?;
    let is_small = |section: &&H::SectionHeader| section.sh_size(LittleEndian).into() <= MAX_NOTES;
    let notes = sections.iter().filter(is_small).filter_map(|section| {
        let mut notes = section.notes(LittleEndian, &cache).ok()??;
        std::iter::from_fn(|| notes.next().ok()?)
            .find(|note| {
                note.name() == elf::ELF_NOTE_GNU
                    && note.n_type(LittleEndian) == elf::NT_GNU_BUILD_ID
            })
            .map(|note| note.desc().iter().map(|byte| format!("{byte:02x}")).collect())
    });
    notes.into_iter().next()
}

fn debug_link_of<H: FileHeader<Endian = LittleEndian>>(file: &File) -> Option<DebugLink> {
    let cache = ReadCache::new(file);
    let sections = header::<H>(&cache).ok()?.sections(LittleEndian, &cache).ok()?;
    let (_, section) = sections.section_by_name(LittleEndian, b".gnu_debuglink")?;
    (section.sh_size(LittleEndian).into() <= MAX_LINK).then_some(())?;
    // A name, a zero, filling up to a multiple of four, and the CRC.
    let data = section.data(LittleEndian, &cache).ok()?;
    let end = data.iter().position(|&byte| byte == 0)?;
    let crc = data.get((end + 1).next_multiple_of(4)..)?.first_chunk()?;
    let name = Path::new(OsStr::from_bytes(&data[..end])).file_name()?;
    Some(DebugLink { name: name.into(), crc: u32::from_le_bytes(*crc) })
}

fn debug_sections_of<H: FileHeader<Endian = LittleEndian>>(
    file: &File,
    limit: u64,
) -> Result<HashMap<String, Vec<u8>>, ElfError> {
    let cache = ReadCache::new(file);
    let sections = header::<H>(&cache)?.sections(LittleEndian, &cache)?;
    let mut left = limit;
    let mut take = |size: u64| {
        left = left.checked_sub(size).ok_or(ElfError::TooLarge)?;
        Ok::<_, ElfError>(size as usize)
    };
    let mut found = HashMap::new();
    for section in sections.iter() {
        let name = sections.section_name(LittleEndian, section).unwrap_or_default();
        let Some(name) = std::str::from_utf8(name).ok().filter(|name| name.starts_with(".debug_"))
        else {
            continue;
        };
        let Some((offset, size)) = section.file_range(LittleEndian) else { continue };
        let read = |offset, size| {
            let mut bytes = vec![0; size];
            // A file that ends early is broken.
            let is_whole = file.read_exact_at(&mut bytes, offset).is_ok();
            is_whole.then_some(bytes).ok_or(ElfError::Truncated)
        };
        let contents = match section.compression(LittleEndian, &cache)? {
            None => read(offset, take(size)?)?,
            Some((header, offset, size)) => {
                let compressed = read(offset, take(size)?)?;
                let uncompressed_size = header.ch_size(LittleEndian).into();
                take(uncompressed_size)?;
                let format = match header.ch_type(LittleEndian) {
                    elf::ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
                    _ => CompressionFormat::Zlib,
                };
                let data = CompressedData { format, data: &compressed, uncompressed_size };
                data.decompress()?.into_owned()
            }
        };
        found.insert(name.to_owned(), contents);
    }
    Ok(found)
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
    // For each section, its index among the executable ones.
    let mut count = 0;
    let code_indices: Vec<Option<usize>> = sections
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
            section: section.and_then(|section| *code_indices.get(section.0)?),
        });
    }
    Ok(ElfSymbols { symbols, names: strings.data(LittleEndian, &cache)?.to_vec() })
}
