//! Names for addresses, from ELF files and System.map files.
//!
//! A file that does not fit the guest must not name anything, so each is held against the guest before
//! its names are used: see [`Symbols::judge`].

mod file;
mod linux;
mod system_map;
mod table;

use std::io;
use std::path::PathBuf;

use file::{SymbolFile, Verdict};

use crate::elf::ElfError;
use crate::guest_file::GuestFileError;
pub use linux::Memory;

/// A file that no symbols can be taken from.
#[derive(Debug, thiserror::Error)]
pub enum SymbolsError {
    /// It cannot be opened.
    #[error("{0}")]
    File(#[from] GuestFileError),
    /// It cannot be read.
    #[error("{path} cannot be read: {source}; name an ELF file or a System.map")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is an ELF file of which no code can be named.
    #[error("{path} {source}")]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ElfError,
    },
    /// It is an ELF file without any.
    #[error("{0} is an ELF file without symbols of code; name one that was not stripped")]
    Stripped(PathBuf),
    /// It runs at any address.
    #[error(
        "{0} is position independent; write symbols={0}@ADDRESS, with the address at which it is loaded"
    )]
    NeedsAddress(String),
    /// It hides the addresses, as `/proc/kallsyms` does from all but root.
    #[error("all addresses in {0} are 0; read it as root")]
    Hidden(PathBuf),
    /// It is something else.
    #[error(
        "{0} is neither an ELF file nor a System.map (lines of address, type and name); \
         of a Linux kernel name vmlinux or its System.map, not vmlinuz"
    )]
    Unknown(PathBuf),
}

/// Names of code, by linear address.
#[derive(Default)]
pub struct Symbols {
    /// In the order in which they were named.
    files: Vec<SymbolFile>,
    memory: Option<Box<dyn Memory>>,
}

impl Symbols {
    /// Reads files, each `FILE` or `FILE@ADDRESS`.
    pub fn load(texts: &[&str]) -> Result<Symbols, SymbolsError> {
        let files = texts.iter().map(|text| SymbolFile::load(text)).collect::<Result<_, _>>()?;
        Ok(Symbols { files, memory: None })
    }

    /// Lets Linux kernels be found in the guest's memory.
    pub fn set_memory(&mut self, memory: Option<impl Memory + 'static>) {
        self.memory = memory.map(|memory| Box::new(memory) as Box<dyn Memory>);
    }

    /// Holds each file against the guest: its sites, with address and bytes, and its memory as it is now.
    pub fn judge(&self, sites: &[(u64, &[u8])]) -> Names<'_> {
        let judge = |file: &SymbolFile| file.judge(sites, self.memory.as_deref());
        Names { symbols: self, verdicts: self.files.iter().map(judge).collect() }
    }
}

/// The names that can be relied on.
pub struct Names<'a> {
    symbols: &'a Symbols,
    verdicts: Vec<Verdict>,
}

impl Names<'_> {
    /// The symbol that a site is in, as `name` or `name+0x12`. Of several files that have one, the first
    /// gives it.
    pub fn name(&self, pc: u64, bytes: &[u8]) -> Option<String> {
        let memory = self.symbols.memory.as_deref();
        let mut files = self.symbols.files.iter().zip(&self.verdicts);
        files.find_map(|(file, verdict)| file.name(verdict, pc, bytes, memory))
    }

    /// Each file as the option named it, and what is wrong with it.
    pub fn files(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let files = self.symbols.files.iter().zip(&self.verdicts);
        files.map(|(file, verdict)| (&*file.text, verdict.problem.as_deref()))
    }
}

#[cfg(test)]
mod tests;
