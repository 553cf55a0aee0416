//! One symbol file, and the check that it matches the guest.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use super::SymbolsError;
use super::linux::{Image, Marks, Memory};
use super::system_map;
use super::table::{Symbol, Table};
use crate::elf::{CodeSection, Elf, ElfSymbols};
use crate::guest_file::GuestFile;

/// The maximum size of a System.map in bytes. A distribution's has 10 MiB.
const MAX_MAP: u64 = 128 << 20;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A symbol file, read.
#[derive(Debug)]
pub(super) struct SymbolFile {
    /// The option's value.
    pub text: String,
    load_offset: Option<u64>,
    table: Table,
    marks: Marks,
    /// The file with its executable sections; `None` for a System.map.
    code: Option<(File, Vec<CodeSection>)>,
}

/// Where the guest runs the code of a file.
#[derive(Clone, Copy, Debug)]
struct Placement {
    /// Run-time address minus address in the file, in bytes.
    load_offset: u64,
    /// The matching kernel in memory, if one was found.
    image: Option<Image>,
}

/// The result of checking a file against the guest.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Empty if the file's names are not used.
    placements: Vec<Placement>,
    /// The fault and the remedy.
    pub problem: Option<String>,
}

impl Verdict {
    fn rejected(problem: String) -> Verdict {
        Verdict { placements: Vec::new(), problem: Some(problem) }
    }
}

impl SymbolFile {
    /// Reads an ELF file or a System.map.
    pub fn load(guest_file: &GuestFile) -> Result<SymbolFile, SymbolsError> {
        let file = guest_file.open("name an ELF file or a System.map")?;
        match Elf::has_magic(&file) {
            true => read_elf(guest_file.clone(), file),
            false => read_map(guest_file.clone(), file),
        }
    }

    /// Checks the file against guest memory if possible, else against the sites that ran.
    pub fn judge(&self, sites: &[(u64, &[u8])], memory: Option<&dyn Memory>) -> Verdict {
        let why_unknown = match (self.marks.are_enough(), memory) {
            (true, Some(memory)) => return self.judge_by_memory(memory),
            (true, None) => "this QEMU does not let pvio read the guest's memory",
            (false, _) => "it lacks linux_banner and sys_call_table",
        };
        if self.marks.are_linux() && !self.has_bytes() && self.load_offset.is_none() {
            return Verdict::rejected(format!(
                "{why_unknown}, so pvio cannot compare it with the running kernel, and its names are not \
                 used; if it describes exactly that kernel, booted with nokaslr, write symbols={}@0",
                self.text
            ));
        }
        self.judge_by_sites(sites)
    }

    fn judge_by_memory(&self, memory: &dyn Memory) -> Verdict {
        let images = self.marks.find(&self.table, memory).into_iter();
        let is_meant =
            |image: &Image| self.load_offset.is_none_or(|offset| offset == image.load_offset);
        let place = |image: Image| Placement { load_offset: image.load_offset, image: Some(image) };
        let placements: Vec<Placement> = images.filter(is_meant).map(place).collect();
        match placements.is_empty() {
            false => Verdict { placements, problem: None },
            true => Verdict::rejected(
                "no kernel in the guest's memory matches it, so its names are not used; name the file of \
                 the kernel that runs"
                    .into(),
            ),
        }
    }

    fn judge_by_sites(&self, sites: &[(u64, &[u8])]) -> Verdict {
        let load_offset = self.load_offset.unwrap_or(0);
        let (mut fit, mut differ) = (0, 0);
        for &(pc, bytes) in sites {
            match self.has(pc.wrapping_sub(load_offset), bytes) {
                Some(true) => fit += 1,
                Some(false) => differ += 1,
                None => {}
            }
        }
        let of_sites = format!(
            "{differ} of the {} sites at its addresses {} other instructions than the file",
            fit + differ,
            if differ == 1 { "has" } else { "have" }
        );
        // A one-byte instruction may match by chance, so a minority of matches proves nothing.
        if differ > fit {
            return Verdict::rejected(format!(
                "{of_sites}, so its names are not used; name the file of the code that runs there, \
                 or, if that code is relocated, write FILE@ADDRESS with its load offset"
            ));
        }
        let problem = (differ > 0).then(|| format!("{of_sites}, and get no name from it"));
        Verdict { placements: vec![Placement { load_offset, image: None }], problem }
    }

    /// Whether the file contains code to compare with the guest's.
    fn has_bytes(&self) -> bool {
        let sections = self.code.iter().flat_map(|(_, sections)| sections);
        sections.into_iter().any(|section| section.offset.is_some())
    }

    /// Whether the file has these bytes at an address; `None` if it has no code there.
    fn has(&self, address: u64, bytes: &[u8]) -> Option<bool> {
        let (file, sections) = self.code.as_ref()?;
        let found = sections
            .iter()
            .find_map(|section| Some((section, section.offset_of(address)?, section.offset?)));
        let (section, offset, start) = found?;
        if section.size - offset < bytes.len() as u64 {
            return Some(false);
        }
        let mut there = vec![0; bytes.len()];
        // The file may have been truncated since.
        let at = start.wrapping_add(offset);
        Some(file.read_exact_at(&mut there, at).is_ok() && there == bytes)
    }

    /// Names a site, if the file matches the guest there.
    pub fn name(
        &self,
        verdict: &Verdict,
        pc: u64,
        bytes: &[u8],
        memory: Option<&dyn Memory>,
    ) -> Option<String> {
        let mut names = verdict.placements.iter().filter_map(|placement| {
            let address = pc.wrapping_sub(placement.load_offset);
            let name = self.table.find(address)?;
            let is_other = self.has(address, bytes) == Some(false)
                || self.is_other_in_memory(placement, address, bytes, memory);
            (!is_other).then_some(name)
        });
        let name = names.next()?;
        // Either of two kernels may have run the site, so their names must agree.
        names.all(|other| other == name).then_some(name)
    }

    /// Whether the kernel in memory has other bytes at a site. Only text that it never frees counts:
    /// it reuses its initialization code's memory.
    fn is_other_in_memory(
        &self,
        placement: &Placement,
        address: u64,
        bytes: &[u8],
        memory: Option<&dyn Memory>,
    ) -> bool {
        let (Some(image), Some(memory)) = (placement.image, memory) else { return false };
        let mut there = vec![0; bytes.len()];
        self.marks.is_text(address)
            && memory.read(address.wrapping_add(image.physical_offset), &mut there)
            && there != bytes
    }
}

fn read_elf(guest_file: GuestFile, file: File) -> Result<SymbolFile, SymbolsError> {
    let GuestFile { text, path, load_offset } = guest_file;
    let elf_error = |source| SymbolsError::Elf { path: path.clone(), source };
    let elf = Elf::read(file).map_err(elf_error)?;
    let ElfSymbols { symbols, names } = elf.symbols().map_err(elf_error)?;
    let mut marks = Marks::default();
    for symbol in &symbols {
        // Every mark's name is shorter.
        let name = names.get(symbol.name..).unwrap_or_default();
        let name = name[..name.len().min(64)].split(|&byte| byte == 0).next().unwrap_or_default();
        marks.record(name, symbol.address);
    }
    let in_code = symbols.into_iter().filter_map(|symbol| {
        let section = &elf.code[symbol.section?];
        section.offset_of(symbol.address)?;
        let section_end = section.address.checked_add(section.size)?;
        let (end, sized) = match symbol.size {
            0 => (section_end, false),
            size => (symbol.address.checked_add(size)?, true),
        };
        let name = symbol.may_be_code.then_some(symbol.name);
        let has_name = names.get(symbol.name).is_some_and(|&first| first != 0);
        has_name.then_some(Symbol { address: symbol.address, end, sized, name })
    });
    let in_code: Vec<Symbol> = in_code.collect();
    let table = Table::new(in_code, names, |byte| byte == 0);
    if table.is_empty() {
        return Err(SymbolsError::Stripped(path));
    }
    if elf.position_independent && load_offset.is_none() {
        return Err(SymbolsError::NeedsAddress(text));
    }
    Ok(SymbolFile { text, load_offset, table, marks, code: Some((elf.file, elf.code)) })
}

fn read_map(guest_file: GuestFile, file: File) -> Result<SymbolFile, SymbolsError> {
    let GuestFile { text, path, load_offset } = guest_file;
    let read_error = |source| SymbolsError::Read { path: path.clone(), source };
    let mut contents = Vec::new();
    // Look at the beginning first: a file of another kind may be large.
    (&file).take(4096).read_to_end(&mut contents).map_err(read_error)?;
    if contents.contains(&0) {
        return Err(SymbolsError::Unknown(path));
    }
    (&file).take(MAX_MAP).read_to_end(&mut contents).map_err(read_error)?;
    if contents.len() as u64 > MAX_MAP {
        return Err(SymbolsError::Unknown(path));
    }
    if contents.starts_with(BYTE_ORDER_MARK) {
        contents.drain(..BYTE_ORDER_MARK.len());
    }
    let read = String::from_utf8(contents).ok().and_then(system_map::read);
    match read {
        Some((table, _)) if table.last_address() == Some(0) => Err(SymbolsError::Hidden(path)),
        Some((table, marks)) if !table.is_empty() => {
            Ok(SymbolFile { text, load_offset, table, marks, code: None })
        }
        _ => Err(SymbolsError::Unknown(path)),
    }
}
