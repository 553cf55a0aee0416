//! Names for code addresses, from ELF files, System.map files and the guest's own kernel.
//!
//! A file that does not match the guest must not name anything. [`Symbols::judge`] checks each file
//! against the guest before its names are used.

mod debug_directories;
mod demangle;
mod elf_names;
mod file;
mod guest_kernel;
mod lines;
mod linux;
mod live;
mod system_map;
mod table;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::elf::ElfError;
use crate::guest::{Caller, Firmware, Kernel, MappedElf, PhysicalMemory, SeenImage};
use crate::guest_file::{GuestFile, GuestFileError};

use debug_directories::DebugDirectories;
use file::{SymbolFile, Verdict};
use lines::{AddressIn, Lines};

pub use guest_kernel::GuestKernels;
use guest_kernel::Running;
pub use live::LiveNames;

/// The most addresses of firmware whose images are remembered.
const MAX_SEEN: usize = 4096;

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
    /// The ELF file has no symbols of code, and no directory has its debug file.
    #[error(
        "{0} is an ELF file without symbols of code, and no directory of symbols= has its debug file, by build id or \
         .gnu_debuglink; name the directory that has it, or a file that was not stripped"
    )]
    NoDebugFile(PathBuf),
    /// The debug file is that of another file.
    #[error(
        "{debug} is not the debug file of {path}, by build id or CRC, so its names are not used; put the right one there"
    )]
    OtherDebugFile {
        /// The file without symbols.
        path: PathBuf,
        /// The file with the name of its debug file.
        debug: PathBuf,
    },
    /// The file is position independent, and no address is given.
    #[error(
        "{0} is position independent; write symbols={0}@ADDRESS, with the address at which it is loaded, or, if it is \
         a program of a Linux guest, processes=on"
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
    /// Where separate debug files are.
    debug: DebugDirectories,
    /// Where the running kernel is looked for; `None` if it cannot be.
    kernels: Option<GuestKernels>,
    /// Whether the running kernel names what no file names.
    guest_names: bool,
    /// Whether firmware is UEFI, once that is known.
    has_uefi: OnceLock<bool>,
    /// The image that was at an address in firmware when code there was translated; `None` if there were two.
    seen: Mutex<HashMap<u64, Option<SeenImage>>>,
}

impl Symbols {
    /// Reads symbol files, and debug files in `directories` when they are needed. `finds_files` says that it is known which files the guest has mapped where, so that code
    /// that may be anywhere is named by its place in a file.
    ///
    /// # Errors
    ///
    /// The first file that cannot be read, has no symbols of code, or needs a load address.
    pub fn load(
        files: &[GuestFile],
        directories: &[PathBuf],
        finds_files: bool,
    ) -> Result<Symbols, SymbolsError> {
        let debug = DebugDirectories::new(directories);
        let files: Vec<SymbolFile> =
            files.iter().map(|file| SymbolFile::load(file, &debug)).collect::<Result<_, _>>()?;
        if let Some(file) = files.iter().find(|file| file.is_unplaced && !finds_files) {
            return Err(SymbolsError::NeedsAddress(file.text.clone()));
        }
        Ok(Symbols { files, debug, ..Symbols::default() })
    }

    /// Has the running Linux kernel name what no file names.
    pub fn name_by_guest(&mut self) {
        self.guest_names = true;
    }

    /// Whether the kernel that runs is needed for names.
    pub fn need_kernels(&self) -> bool {
        self.guest_names || self.has_kernel_files()
    }

    fn has_kernel_files(&self) -> bool {
        self.files.iter().any(SymbolFile::is_linux)
    }

    /// Code of firmware is about to run for the first time at an address: UEFI firmware may unload it soon.
    pub fn see_firmware(&self, pc: u64) {
        let Some(kernels) = self.kernels.as_ref().filter(|_| self.guest_names) else { return };
        let memory = kernels.memory();
        if !*self.has_uefi.get_or_init(|| Firmware::is_there(memory)) {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = SeenImage::around(memory, pc)
            && seen.len() < MAX_SEEN
        {
            let kept = seen.entry(pc).or_insert_with(|| Some(image.clone()));
            kept.take_if(|kept| *kept != image);
        }
    }

    /// Sets where the kernel is looked for.
    pub fn set_kernels(&mut self, kernels: GuestKernels) {
        self.kernels = Some(kernels);
    }

    /// Finds the kernel that runs now, and checks each file against it, or else against its sites.
    ///
    /// A site is the linear address of an instruction that ran, with its bytes.
    pub fn judge(&self, sites: &[(u64, &[u8])]) -> Names<'_> {
        self.names(sites, self.running())
    }

    /// As [`Symbols::judge`] before any kernel runs: firmware names what no file names.
    pub fn judge_firmware(&self, sites: &[(u64, &[u8])]) -> Names<'_> {
        self.names(sites, Running::NotFound)
    }

    fn names(&self, sites: &[(u64, &[u8])], running: Running) -> Names<'_> {
        let firmware = match (&running, &self.kernels) {
            (Running::NotFound, Some(kernels)) if self.guest_names => {
                Firmware::find(kernels.memory())
            }
            _ => None,
        };
        let verdicts = self.judge_files(sites, &running);
        Names { symbols: self, verdicts, running, firmware, lines: Lines::default() }
    }

    /// As [`Symbols::judge`], by the kernel that a vCPU left a moment ago, which ran these sites.
    ///
    /// `last_tables` are page tables that vCPUs used while it ran.
    pub fn judge_left(&self, sites: &[(u64, &[u8])], last_tables: &[u64]) -> Names<'_> {
        self.names(sites, self.look(|kernels| kernels.find_left(last_tables, sites)))
    }

    /// The kernel that runs now, if a file or the guest's own names need it.
    fn running(&self) -> Running {
        match self.guest_names {
            true => self.look(GuestKernels::find),
            false => self.running_for_files(),
        }
    }

    /// The kernel that runs now, if a file needs it.
    fn running_for_files(&self) -> Running {
        match self.has_kernel_files() {
            true => self.look(GuestKernels::find),
            false => Running::NotFound,
        }
    }

    fn look(&self, find: impl FnOnce(&GuestKernels) -> Option<Kernel>) -> Running {
        match &self.kernels {
            None => Running::Unreadable,
            Some(kernels) => match find(kernels) {
                Some(kernel) => Running::Found(Box::new(kernel)),
                None => Running::NotFound,
            },
        }
    }

    fn judge_files(&self, sites: &[(u64, &[u8])], running: &Running) -> Vec<Verdict> {
        self.files.iter().map(|file| file.judge(sites, running)).collect()
    }

    fn name_by_files(
        &self,
        verdicts: &[Verdict],
        running: &Running,
        pc: u64,
        bytes: &[u8],
    ) -> Option<Found> {
        let kernels = self.kernels.as_ref().zip(running.kernel());
        let mut files = self.files.iter().zip(verdicts);
        files.find_map(|(file, verdict)| file.name(verdict, pc, bytes, kernels))
    }
}

impl Symbols {
    /// Names code at an offset in the image of a module of firmware, by the debug file of the module's name.
    ///
    /// A module has no build id. If the debug file has code, it must be what ran.
    fn function_of_module(&self, module: &str, offset: u64, bytes: &[u8]) -> Option<Found> {
        self.debug.by_module(module).iter().find_map(|file| {
            if file.names.code.has(offset, bytes) == Some(false) {
                self.debug.note(&file.path, Some(OTHER_MODULE.to_owned()));
                return None;
            }
            let symbol = file.names.table.find(offset)?;
            self.debug.note(&file.path, None);
            Some(file.found(format!("{symbol} [{module}]"), offset))
        })
    }
}

/// The problem of a file that has a module's name, and other code.
const OTHER_MODULE: &str = "it has the name of a module that ran, but other instructions, which get no name from it; \
                            put the debug file of that build there";

/// A file that the guest has mapped.
#[derive(Clone, Copy, Debug)]
pub struct MappedFile<'a> {
    /// Its path in the guest.
    pub path: &'a str,
    /// What its first page says, if that could be read.
    pub elf: Option<&'a MappedElf>,
}

/// A name, and where its line is to be looked up.
struct Found {
    name: SiteName,
    line: Option<AddressIn>,
}

/// The name of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteName {
    /// `symbol` or `symbol+0x12`; in a module of the kernel's `symbol+0x12 [module]`; in firmware `module+0x1234`.
    pub symbol: String,
    /// The file, as the option names it; [`GUEST_KERNEL`] or [`FIRMWARE`].
    pub named_by: String,
    /// The file and the line of the source, as `path/file.c:123`.
    pub source: Option<String>,
}

/// What names a site that the running kernel names.
pub const GUEST_KERNEL: &str = "guest kernel";
/// What names a site that UEFI firmware names.
pub const FIRMWARE: &str = "firmware";

/// The names that match the guest.
pub struct Names<'a> {
    symbols: &'a Symbols,
    verdicts: Vec<Verdict>,
    running: Running,
    /// `None` if a kernel runs, or if the firmware is not UEFI.
    firmware: Option<Firmware>,
    lines: Lines,
}

impl Names<'_> {
    /// Names a site. The first file that names it wins; the running kernel or the firmware comes last.
    pub fn name(&self, pc: u64, bytes: &[u8]) -> Option<SiteName> {
        let by_files = self.symbols.name_by_files(&self.verdicts, &self.running, pc, bytes);
        let found = by_files.or_else(|| match self.own_names() {
            Some((kernels, kernel)) => {
                let symbol = kernels.name(kernel, pc, bytes)?;
                let name = SiteName { symbol, named_by: GUEST_KERNEL.to_owned(), source: None };
                Some(Found { name, line: self.symbols.debug.line_of_kernel(kernel, pc) })
            }
            None => self.firmware_name(pc, bytes),
        });
        found.map(|found| self.with_source(found))
    }

    /// Looks the line up.
    fn with_source(&self, Found { name, line }: Found) -> SiteName {
        let source = line.and_then(|line| self.lines.find(&line));
        SiteName { source, ..name }
    }

    /// Names a site in firmware, which runs at physical addresses.
    fn firmware_name(&self, pc: u64, bytes: &[u8]) -> Option<Found> {
        let memory = self.symbols.kernels.as_ref()?.memory();
        let firmware = self.firmware.as_ref()?;
        let seen = self.symbols.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = match seen.get(&pc) {
            // Either may have run.
            Some(None) => return None,
            Some(Some(image)) => Some(image),
            None => None,
        };
        let (module, offset) = firmware.name(memory, pc, seen)?;
        let mut there = vec![0; bytes.len()];
        let mut is_there = || memory.read(pc, &mut there) && there == bytes;
        (seen.is_some() || is_there()).then_some(())?;
        self.symbols.function_of_module(&module, offset, bytes).or_else(|| {
            let symbol = match offset {
                0 => module,
                offset => format!("{module}+{offset:#x}"),
            };
            let name = SiteName { symbol, named_by: FIRMWARE.to_owned(), source: None };
            Some(Found { name, line: None })
        })
    }

    /// Whether UEFI firmware names sites.
    pub fn has_firmware(&self) -> bool {
        self.firmware.is_some()
    }

    /// Names a caller in a call chain, as [`Names::name`]; its offset is that of the address to which the call returns.
    pub fn caller(&self, caller: &Caller) -> Option<String> {
        let (address, after) = (caller.frame.address(), caller.frame.after());
        // The last byte of a call is not patched; code after it may be.
        let code = &caller.code[..1];
        let named = self.symbols.name_by_files(&self.verdicts, &self.running, address, code);
        named.map(|found| later(&found.name.symbol, after)).or_else(|| {
            let (kernels, kernel) = self.own_names()?;
            let known = caller.in_module.as_ref().map(ToString::to_string);
            known.or_else(|| kernels.caller(kernel, address, after, &caller.code))
        })
    }

    /// Names code at an offset in a file that the guest has mapped.
    pub fn name_in_file(
        &self,
        mapped: MappedFile<'_>,
        offset: u64,
        bytes: &[u8],
    ) -> Option<SiteName> {
        let mut files = self.symbols.files.iter();
        let by_file = files.find_map(|file| file.name_in_file(mapped, offset, bytes));
        let found = by_file.or_else(|| {
            let elf = mapped.elf?;
            let debug = self.symbols.debug.by_build_id(&elf.build_id)?;
            let address = elf.address_of(offset)?;
            Some(debug.found(debug.names.table.find(address)?, address))
        });
        found.map(|found| self.with_source(found))
    }

    /// The running kernel, if it names what no file names.
    fn own_names(&self) -> Option<(&GuestKernels, &Kernel)> {
        let kernels = self.symbols.kernels.as_ref().filter(|_| self.symbols.guest_names)?;
        Some((kernels, self.kernel()?))
    }

    /// The Linux kernel that runs in the guest, if it was looked for and found.
    pub fn kernel(&self) -> Option<&Kernel> {
        self.running.kernel()
    }

    /// Each file as the option names it, with its problem if it has one; then the debug files that were found.
    pub fn files(&self) -> impl Iterator<Item = (String, Option<String>)> {
        let files = self.symbols.files.iter().zip(&self.verdicts);
        let files = files.map(|(file, verdict)| (file.text.clone(), verdict.problem.clone()));
        files.chain(self.symbols.debug.found())
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
