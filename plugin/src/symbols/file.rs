//! One file of symbols, and what is known of whether it fits the guest.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use super::SymbolsError;
use super::linux::{Image, Marks, Memory};
use super::system_map;
use super::table::{Symbol, Table};
use crate::elf::{CodeSection, Elf, ElfSymbols};
use crate::guest_file::GuestFile;

/// The largest System.map that is read. A distribution's has 10 MiB.
const MAX_MAP: u64 = 128 << 20;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A file of symbols.
#[derive(Debug)]
pub(super) struct SymbolFile {
    /// What the option said.
    pub text: String,
    moved: Option<u64>,
    table: Table,
    marks: Marks,
    /// Where the file itself has code; nowhere in a System.map.
    code: Option<(File, Vec<CodeSection>)>,
}

/// Where in the guest the code of a file is.
#[derive(Clone, Copy, Debug)]
struct Place {
    moved: u64,
    /// A kernel in memory that is known to be the file's.
    image: Option<Image>,
}

/// What is known of a file and the guest.
#[derive(Debug)]
pub(super) struct Verdict {
    /// None where the file's names are not used.
    places: Vec<Place>,
    /// What is wrong, and what would be right.
    pub problem: Option<String>,
}

impl Verdict {
    fn none(problem: String) -> Verdict {
        Verdict { places: Vec::new(), problem: Some(problem) }
    }
}

impl SymbolFile {
    pub fn load(text: &str) -> Result<SymbolFile, SymbolsError> {
        let guest_file = GuestFile::parse(text)?;
        let file = guest_file.open("name an ELF file or a System.map")?;
        match Elf::is_one(&file) {
            true => of_elf(text, guest_file, file),
            false => of_map(text, guest_file, file),
        }
    }

    /// Judges the file by the guest's memory where that tells, else by the sites that ran.
    pub fn judge(&self, sites: &[(u64, &[u8])], memory: Option<&dyn Memory>) -> Verdict {
        let why_unknown = match (self.marks.are_enough(), memory) {
            (true, Some(memory)) => return self.judge_by_memory(memory),
            (true, None) => "this QEMU does not let pvio read the guest's memory",
            (false, _) => "it lacks linux_banner and sys_call_table",
        };
        if self.marks.are_linux() && !self.has_bytes() && self.moved.is_none() {
            return Verdict::none(format!(
                "{why_unknown}, so that it cannot be held against the kernel that runs, and its names are \
                 not used; if that is the very kernel that it describes, booted with nokaslr, write \
                 symbols={}@0",
                self.text
            ));
        }
        self.judge_by_sites(sites)
    }

    fn judge_by_memory(&self, memory: &dyn Memory) -> Verdict {
        let images = self.marks.find(&self.table, memory).into_iter();
        let is_meant = |image: &Image| self.moved.is_none_or(|moved| moved == image.moved);
        let place = |image: Image| Place { moved: image.moved, image: Some(image) };
        let places: Vec<Place> = images.filter(is_meant).map(place).collect();
        match places.is_empty() {
            false => Verdict { places, problem: None },
            true => Verdict::none(
                "no kernel in the guest's memory is the one that it describes, so its names are not used; \
                 name the file of the kernel that runs"
                    .into(),
            ),
        }
    }

    fn judge_by_sites(&self, sites: &[(u64, &[u8])]) -> Verdict {
        let moved = self.moved.unwrap_or(0);
        let (mut fit, mut differ) = (0, 0);
        for &(pc, bytes) in sites {
            match self.has(pc.wrapping_sub(moved), bytes) {
                Some(true) => fit += 1,
                Some(false) => differ += 1,
                None => {}
            }
        }
        let of_sites = format!(
            "{differ} of the {} sites at its addresses {} other instructions than it has there",
            fit + differ,
            if differ == 1 { "is of" } else { "are of" }
        );
        // An instruction of one byte may be at the right place by chance.
        if differ > fit {
            return Verdict::none(format!(
                "{of_sites}, so its names are not used; name the file of what runs there, or, if that \
                 moves, write FILE@ADDRESS with how far it has moved"
            ));
        }
        let problem = (differ > 0).then(|| format!("{of_sites}, and get no name from it"));
        Verdict { places: vec![Place { moved, image: None }], problem }
    }

    /// Whether there is anything in the file to compare the guest's code with.
    fn has_bytes(&self) -> bool {
        let sections = self.code.iter().flat_map(|(_, sections)| sections);
        sections.into_iter().any(|section| section.offset.is_some())
    }

    /// Whether the file has these bytes at an address; `None` where it has none.
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
        // A file that was cut off meanwhile has nothing there.
        let at = start.wrapping_add(offset);
        Some(file.read_exact_at(&mut there, at).is_ok() && there == bytes)
    }

    /// The name of a site.
    pub fn name(
        &self,
        verdict: &Verdict,
        pc: u64,
        bytes: &[u8],
        memory: Option<&dyn Memory>,
    ) -> Option<String> {
        let mut names = verdict.places.iter().filter_map(|place| {
            let address = pc.wrapping_sub(place.moved);
            let name = self.table.find(address)?;
            let is_other = self.has(address, bytes) == Some(false)
                || self.is_other_in_memory(place, address, bytes, memory);
            (!is_other).then_some(name)
        });
        let name = names.next()?;
        // Two kernels of which each could have run it name it alike, or nothing does.
        names.all(|other| other == name).then_some(name)
    }

    /// Whether a kernel is known to have something else at a site. What it needs to start alone, it gives
    /// away later.
    fn is_other_in_memory(
        &self,
        place: &Place,
        address: u64,
        bytes: &[u8],
        memory: Option<&dyn Memory>,
    ) -> bool {
        let (Some(image), Some(memory)) = (place.image, memory) else { return false };
        let mut there = vec![0; bytes.len()];
        self.marks.is_text(address)
            && memory.read(address.wrapping_add(image.physical), &mut there)
            && there != bytes
    }
}

fn of_elf(text: &str, guest_file: GuestFile, file: File) -> Result<SymbolFile, SymbolsError> {
    let GuestFile { path, moved } = guest_file;
    let elf_error = |source| SymbolsError::Elf { path: path.clone(), source };
    let elf = Elf::read(file).map_err(elf_error)?;
    let ElfSymbols { symbols, names } = elf.symbols().map_err(elf_error)?;
    let mut marks = Marks::default();
    for symbol in &symbols {
        // The longest name of a mark is shorter.
        let name = names.get(symbol.name..).unwrap_or_default();
        let name = name[..name.len().min(64)].split(|&byte| byte == 0).next().unwrap_or_default();
        marks.see(name, symbol.address);
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
    if elf.position_independent && moved.is_none() {
        return Err(SymbolsError::NeedsAddress(text.to_owned()));
    }
    Ok(SymbolFile { text: text.to_owned(), moved, table, marks, code: Some((elf.file, elf.code)) })
}

fn of_map(text: &str, guest_file: GuestFile, file: File) -> Result<SymbolFile, SymbolsError> {
    let GuestFile { path, moved } = guest_file;
    let read_error = |source| SymbolsError::Read { path: path.clone(), source };
    let mut contents = Vec::new();
    // A look at the beginning, because files of other kinds may be large.
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
            Ok(SymbolFile { text: text.to_owned(), moved, table, marks, code: None })
        }
        _ => Err(SymbolsError::Unknown(path)),
    }
}
