//! Reads the symbols and the code of an ELF file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::lines::DebugInfo;
use super::linux::Marks;
use super::table::{Symbol, Table};
use crate::elf::{CodeSection, Elf, ElfError, ElfSymbols};

/// The symbols of an ELF file by address, and its code.
#[derive(Debug)]
pub(super) struct ElfNames {
    pub table: Table,
    pub marks: Marks,
    pub code: Code,
    pub info: Arc<DebugInfo>,
}

impl ElfNames {
    /// Reads the symbols of code.
    pub fn read(elf: Elf) -> Result<ElfNames, ElfError> {
        let ElfSymbols { symbols, names } = elf.symbols()?;
        let mut marks = Marks::default();
        marks.build_id = elf.build_id();
        for symbol in &symbols {
            // Every mark's name is shorter.
            let name = names.get(symbol.name..).unwrap_or_default();
            let name = name[..name.len().min(64)].split(|&byte| byte == 0);
            marks.record(name.into_iter().next().unwrap_or_default(), symbol.address);
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
        let info = Arc::new(DebugInfo::of(&elf.file));
        let code = Code { file: elf.file, sections: elf.code };
        Ok(ElfNames { table, marks, code, info })
    }
}

/// The executable sections of a file.
#[derive(Debug)]
pub(super) struct Code {
    file: File,
    sections: Vec<CodeSection>,
}

impl Code {
    /// Returns whether the file has these bytes at an address; `None` if it has no code there.
    pub fn has(&self, address: u64, bytes: &[u8]) -> Option<bool> {
        let mut found = self.sections.iter();
        let (section, offset, start) = found
            .find_map(|section| Some((section, section.offset_of(address)?, section.offset?)))?;
        if section.size - offset < bytes.len() as u64 {
            return Some(false);
        }
        let mut there = vec![0; bytes.len()];
        // The file may have been truncated since.
        let at = start.wrapping_add(offset);
        Some(self.file.read_exact_at(&mut there, at).is_ok() && there == bytes)
    }

    /// The address of code at an offset in the file.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        self.sections.iter().find_map(|section| {
            let within = offset.checked_sub(section.offset?)?;
            (within < section.size).then(|| section.address + within)
        })
    }
}
