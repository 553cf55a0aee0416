//! Names code addresses by ELF files, System.map files, and the guest's own kernel or firmware.
//!
//! A file that does not match the guest must not name anything. [`Symbols::judge`] checks each file
//! against the guest before its names are used.

mod debug_directories;
mod demangle;
mod elf_names;
mod error;
mod file;
mod guest_kernel;
mod lines;
mod linux;
mod live;
mod modules;
mod names;
mod system_map;
mod table;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::guest::{Firmware, Kernel, MappedElf, ModuleNamer, SeenImage};
use crate::guest_file::GuestFile;

use debug_directories::DebugDirectories;
use file::{SymbolFile, Verdict};
use lines::AddressIn;
use modules::ModuleNames;

pub use error::SymbolsError;
pub use guest_kernel::GuestKernels;
use guest_kernel::Running;
pub use live::LiveNames;
pub use names::{Names, later};

/// Maximum number of addresses of firmware whose images are remembered.
const MAX_SEEN: usize = 4096;

/// Symbol files, for names by linear address.
#[derive(Default)]
pub struct Symbols {
    /// In the order of the options.
    files: Vec<SymbolFile>,
    /// The directories of separate debug files.
    debug: DebugDirectories,
    /// Finds the running kernel; `None` if guest memory cannot be read.
    kernels: Option<GuestKernels>,
    /// True if the running kernel names code that no file names.
    guest_names: bool,
    /// True if the firmware is UEFI; unset before the first search.
    has_uefi: OnceLock<bool>,
    /// The image around each address of firmware when its code was translated; `None` if there were two.
    seen: Mutex<HashMap<u64, Option<SeenImage>>>,
    /// The names of code in kernel modules at its translations.
    modules: ModuleNames,
}

impl Symbols {
    /// Reads symbol files now, and debug files in `directories` when they are needed.
    ///
    /// With `finds_files`, the mappings of guest processes are known, so a position-independent file needs no address.
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

    /// Lets the running kernel and the firmware name code that no file names.
    pub fn name_by_guest(&mut self) {
        self.guest_names = true;
    }

    /// Returns true if names need the running kernel.
    pub fn need_kernels(&self) -> bool {
        self.guest_names || self.has_kernel_files()
    }

    fn has_kernel_files(&self) -> bool {
        self.files.iter().any(SymbolFile::is_linux)
    }

    /// Notes the image that contains firmware code that is being translated. UEFI firmware may unload it soon.
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

    /// Notes which module of the kernel has code that QEMU translates. Call it in each translation of a site.
    ///
    /// `find` searches the kernel's list of modules. It is called for the first site that a module may have, and for later
    /// ones if it found nothing.
    pub fn see_kernel_code(
        &self,
        pc: u64,
        bytes: &[u8],
        find: impl FnOnce() -> Option<ModuleNamer>,
    ) {
        if let Some(kernels) = self.kernels.as_ref().filter(|_| self.guest_names) {
            self.modules.see(kernels.memory(), pc, bytes, find);
        }
    }

    /// Notes that the kernel of another boot runs from now on.
    pub fn begin_boot(&self, boot: u32) {
        self.modules.begin_boot(boot);
    }

    /// Sets the finder of the running kernel.
    pub fn set_kernels(&mut self, kernels: GuestKernels) {
        self.kernels = Some(kernels);
    }

    /// Finds the running kernel, and checks each file against the guest.
    ///
    /// A kernel's file is checked against the kernel, another file against the sites.
    /// A site is the linear address of an instruction that ran, with its bytes.
    pub fn judge(&self, sites: &[(u64, &[u8])]) -> Names<'_> {
        self.names(sites, self.running())
    }

    /// Checks files as [`Symbols::judge`], before any kernel runs: firmware names code that no file names.
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
        Names::new(self, verdicts, running, firmware)
    }

    /// Checks files as [`Symbols::judge`], by the kernel that a vCPU left a moment ago.
    ///
    /// The kernel ran these sites.
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
    /// Names code of firmware by the debug file of its module.
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

/// The problem of a debug file whose code differs from the module's.
const OTHER_MODULE: &str = "it has the name of a module that ran, but other instructions, so that module's sites get no names from it; \
                            replace it by the debug file of that build";

/// A file that the guest has mapped.
#[derive(Clone, Copy, Debug)]
pub struct MappedFile<'a> {
    /// Its path in the guest.
    pub path: &'a str,
    /// Its ELF headers, if its first page could be read.
    pub elf: Option<&'a MappedElf>,
}

/// A name, and the address for its source line.
struct Found {
    name: SiteName,
    line: Option<AddressIn>,
}

/// The name of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteName {
    /// `symbol` or `symbol+0x12`; in a module of the kernel's `symbol+0x12 [module]`; in firmware `module+0x1234`.
    pub symbol: String,
    /// The source of the name: the file, as the option names it, [`GUEST_KERNEL`] or [`FIRMWARE`].
    pub named_by: String,
    /// The file and the line of the source, as `path/file.c:123`.
    pub source: Option<String>,
}

/// [`SiteName::named_by`] of a name from the running kernel.
pub const GUEST_KERNEL: &str = "guest kernel";
/// [`SiteName::named_by`] of a name from UEFI firmware.
pub const FIRMWARE: &str = "firmware";

#[cfg(test)]
mod tests;
