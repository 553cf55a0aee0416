//! Names for code addresses, from ELF files, System.map files and the guest's own kernel.
//!
//! A file that does not match the guest must not name anything. [`Symbols::judge`] checks each file
//! against the guest before its names are used.

mod file;
mod guest_kernel;
mod linux;
mod live;
mod system_map;
mod table;

use std::io;
use std::path::PathBuf;

use crate::elf::ElfError;
use crate::guest::{CodeBytes, Kernel};
use crate::guest_file::{GuestFile, GuestFileError};

use file::{SymbolFile, Verdict};

pub use guest_kernel::GuestKernels;
pub use linux::Memory;
pub use live::LiveNames;

/// A file that has no usable symbols.
#[derive(Debug, thiserror::Error)]
pub enum SymbolsError {
    /// The file cannot be opened.
    #[error("{0}")]
    File(#[from] GuestFileError),
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}; name an ELF file or a System.map")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The ELF file is unusable.
    #[error("{path} {source}")]
    Elf {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: ElfError,
    },
    /// The ELF file has no symbols of code.
    #[error("{0} is an ELF file without symbols of code; name one that was not stripped")]
    Stripped(PathBuf),
    /// The file is position independent, and no address is given.
    #[error(
        "{0} is position independent; write symbols={0}@ADDRESS, with the address at which it is loaded"
    )]
    NeedsAddress(String),
    /// The addresses are hidden: `/proc/kallsyms` shows them to root alone.
    #[error("all addresses in {0} are 0; read it as root")]
    Hidden(PathBuf),
    /// The format is unknown.
    #[error(
        "{0} is neither an ELF file nor a System.map (lines of address, type and name); \
         of a Linux kernel name vmlinux or its System.map, not vmlinuz"
    )]
    Unknown(PathBuf),
}

/// Symbol files, for names by linear address.
#[derive(Default)]
pub struct Symbols {
    /// In the order of the options.
    files: Vec<SymbolFile>,
    memory: Option<Box<dyn Memory>>,
    /// Where the running kernel is looked for; `None` if it is not asked for.
    kernels: Option<GuestKernels>,
}

impl Symbols {
    /// Reads symbol files.
    ///
    /// # Errors
    ///
    /// The first file that cannot be read, has no symbols of code, or needs a load address.
    pub fn load(files: &[GuestFile]) -> Result<Symbols, SymbolsError> {
        let files = files.iter().map(SymbolFile::load).collect::<Result<_, _>>()?;
        Ok(Symbols { files, memory: None, kernels: None })
    }

    /// Sets the guest memory in which [`Symbols::judge`] looks for Linux kernels.
    pub fn set_memory(&mut self, memory: Option<impl Memory + 'static>) {
        self.memory = memory.map(|memory| Box::new(memory) as Box<dyn Memory>);
    }

    /// Has the running Linux kernel name what no file names.
    pub fn set_kernels(&mut self, kernels: Option<GuestKernels>) {
        self.kernels = kernels;
    }

    /// Checks each file against the guest's memory as it is now, or else against its sites.
    ///
    /// A site is the linear address of an instruction that ran, with its bytes.
    pub fn judge(&self, sites: &[(u64, &[u8])]) -> Names<'_> {
        Names {
            symbols: self,
            verdicts: self.judge_files(sites),
            kernel: self.kernels.as_ref().and_then(GuestKernels::find),
        }
    }

    fn judge_files(&self, sites: &[(u64, &[u8])]) -> Vec<Verdict> {
        let judge = |file: &SymbolFile| file.judge(sites, self.memory.as_deref());
        self.files.iter().map(judge).collect()
    }

    fn name_by_files(&self, verdicts: &[Verdict], pc: u64, bytes: &[u8]) -> Option<String> {
        let memory = self.memory.as_deref();
        let mut files = self.files.iter().zip(verdicts);
        files.find_map(|(file, verdict)| file.name(verdict, pc, bytes, memory))
    }
}

/// The names that match the guest.
pub struct Names<'a> {
    symbols: &'a Symbols,
    verdicts: Vec<Verdict>,
    kernel: Option<Kernel>,
}

impl Names<'_> {
    /// Names a site as `symbol` or `symbol+0x12`, and in a module of the kernel's `symbol+0x12 [module]`. The first
    /// file that names it wins; the running kernel comes last.
    pub fn name(&self, pc: u64, bytes: &[u8]) -> Option<String> {
        self.symbols.name_by_files(&self.verdicts, pc, bytes).or_else(|| {
            let (kernels, kernel) = (self.symbols.kernels.as_ref()?, self.kernel.as_ref()?);
            kernels.name(kernel, pc, bytes)
        })
    }

    /// Names the code at an address in a call chain, as [`Names::name`]. `code` are bytes from there on.
    ///
    /// The offset in the name is that of the address plus `after`.
    pub fn caller(&self, address: u64, after: u64, code: CodeBytes) -> Option<String> {
        let memory = self.symbols.memory.as_deref();
        let mut files = self.symbols.files.iter().zip(&self.verdicts);
        // The last byte of a call is not patched; code after it may be.
        let named = files.find_map(|(file, verdict)| {
            file.name(verdict, address, &code[..1], memory).map(|name| later(&name, after))
        });
        named.or_else(|| {
            let (kernels, kernel) = (self.symbols.kernels.as_ref()?, self.kernel.as_ref()?);
            kernels.caller(kernel, address, after, &code)
        })
    }

    /// The Linux kernel that runs in the guest, if it was looked for and found.
    pub fn kernel(&self) -> Option<&Kernel> {
        self.kernel.as_ref()
    }

    /// Each file as the option names it, with its problem if it has one.
    pub fn files(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let files = self.symbols.files.iter().zip(&self.verdicts);
        files.map(|(file, verdict)| (&*file.text, verdict.problem.as_deref()))
    }
}

/// `symbol` or `symbol+0x12` with a higher offset.
fn later(name: &str, after: u64) -> String {
    let offset = name
        .rsplit_once("+0x")
        .and_then(|(symbol, offset)| Some((symbol, u64::from_str_radix(offset, 16).ok()?)));
    let (symbol, offset) = offset.unwrap_or((name, 0));
    match offset + after {
        0 => symbol.to_owned(),
        offset => format!("{symbol}+{offset:#x}"),
    }
}

#[cfg(test)]
mod tests;
