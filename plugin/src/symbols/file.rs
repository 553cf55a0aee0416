//! Reads a symbol file, and checks that it matches the guest.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::debug_directories::DebugDirectories;
use super::elf_names::{Code, ElfNames};
use super::guest_kernel::{GuestKernels, Running};
use super::lines::DebugInfo;
use super::linux::Marks;
use super::system_map;
use super::table::Table;
use super::{Found, MappedFile, SiteName, SymbolsError};
use crate::elf::Elf;
use crate::guest::Kernel;
use crate::guest_file::GuestFile;

/// The maximum size of a System.map in bytes. A distribution's has 10 MiB.
const MAX_MAP: u64 = 128 << 20;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A symbol file, read.
#[derive(Debug)]
pub(super) struct SymbolFile {
    /// The option's value.
    pub text: String,
    path: PathBuf,
    load_offset: Option<u64>,
    /// True if the load address is unknown: only mapped code has names.
    pub is_unplaced: bool,
    table: Table,
    marks: Marks,
    /// The executable sections; `None` for a System.map.
    code: Option<Code>,
    /// The debug information; `None` for a System.map.
    info: Option<Arc<DebugInfo>>,
    /// True if it described a kernel that ran earlier.
    has_fit: AtomicBool,
}

/// The result of checking a file against the guest.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// `None` if the file's names are not used.
    placement: Option<Placement>,
    /// The problem and the remedy, for the user.
    pub problem: Option<String>,
}

/// The load offset of a file's code in the guest.
#[derive(Clone, Copy, Debug)]
struct Placement {
    /// Run-time address minus address in the file, in bytes.
    load_offset: u64,
    /// True if the file describes the running kernel.
    is_kernel: bool,
}

impl Verdict {
    fn rejected(problem: String) -> Verdict {
        Verdict { placement: None, problem: Some(problem) }
    }

    fn placed(load_offset: u64, is_kernel: bool) -> Verdict {
        Verdict { placement: Some(Placement { load_offset, is_kernel }), problem: None }
    }
}

impl SymbolFile {
    /// Reads an ELF file or a System.map.
    pub fn load(
        guest_file: &GuestFile,
        debug: &DebugDirectories,
    ) -> Result<SymbolFile, SymbolsError> {
        let file = guest_file.open("name an ELF file or a System.map")?;
        match Elf::has_magic(&file) {
            true => read_elf(guest_file.clone(), file, debug),
            false => read_map(guest_file.clone(), file),
        }
    }

    /// Returns true if the file describes a Linux kernel.
    pub fn is_linux(&self) -> bool {
        self.marks.are_linux()
    }

    /// Checks a kernel's file against the running kernel, others against the sites.
    pub fn judge(&self, sites: &[(u64, &[u8])], running: &Running) -> Verdict {
        if self.is_unplaced {
            return Verdict::default();
        }
        if !self.is_linux() {
            return self.judge_by_sites(sites);
        }
        let why_unknown = match running {
            Running::Found(kernel) => return self.judge_by_kernel(kernel),
            Running::NotFound => "no Linux kernel with a symbol table (kallsyms) runs in the guest",
            Running::Unreadable => "this QEMU does not let pvio read the guest's memory",
        };
        let has = |&(pc, bytes): &(u64, &[u8])| self.has(pc, bytes) == Some(true);
        if self.load_offset.is_some() || sites.iter().any(has) {
            return self.judge_by_sites(sites);
        }
        // Its kernel ran before, and the sites got their names when it ended.
        if self.has_fit.load(Ordering::Relaxed) {
            return Verdict::default();
        }
        Verdict::rejected(format!(
            "{why_unknown}, so pvio cannot compare the file with the running kernel, and its names are not used; if the \
             file describes exactly that kernel, booted with nokaslr, write symbols={}@0",
            self.text
        ))
    }

    fn judge_by_kernel(&self, kernel: &Kernel) -> Verdict {
        let release = kernel.release().unwrap_or("of an unknown release");
        match (self.marks.load_offset(&self.table, kernel), self.load_offset) {
            (None, _) if self.has_fit.load(Ordering::Relaxed) => Verdict::default(),
            (None, _) => Verdict::rejected(format!(
                "it does not describe the kernel that runs in the guest ({release}), so its names are not used; \
                 name the file of that kernel"
            )),
            (Some(moved), Some(offset)) if moved != offset => Verdict::rejected(format!(
                "the kernel that runs has moved by {moved:#x}, not by {offset:#x}, so its names are not used; write \
                 the file without an address"
            )),
            (Some(moved), _) => {
                self.has_fit.store(true, Ordering::Relaxed);
                Verdict::placed(moved, true)
            }
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
        Verdict { problem, ..Verdict::placed(load_offset, false) }
    }

    /// Returns whether the file has these bytes at an address; `None` if it has no code there.
    fn has(&self, address: u64, bytes: &[u8]) -> Option<bool> {
        self.code.as_ref()?.has(address, bytes)
    }

    /// Names a site, if the file matches the guest there.
    pub fn name(
        &self,
        verdict: &Verdict,
        pc: u64,
        bytes: &[u8],
        kernels: Option<(&GuestKernels, &Kernel)>,
    ) -> Option<Found> {
        let placement = verdict.placement?;
        let address = pc.wrapping_sub(placement.load_offset);
        let name = self.table.find(address)?;
        if self.has(address, bytes) == Some(false) {
            return None;
        }
        if placement.is_kernel {
            let (kernels, kernel) = kernels?;
            kernels.has(kernel, pc, bytes).then_some(())?;
            // The kernel's own symbol for the site must be where the file has one.
            let own = kernel.name(pc)?;
            let start = address.wrapping_sub(own.offset);
            (own.module.is_none() && self.table.starts_code(start)).then_some(())?;
        }
        Some(self.found(name, address))
    }

    /// A name for an address in the file.
    fn found(&self, symbol: String, address: u64) -> Found {
        let name = SiteName { symbol, named_by: self.text.clone(), source: None };
        Found { name, line: self.info.clone().map(|info| (info, address)) }
    }

    /// Names code at an offset in a mapped file, if this is that file.
    ///
    /// The build id must be the same, or the name if there is no build id, and so must the bytes at the offset.
    pub fn name_in_file(&self, mapped: MappedFile<'_>, offset: u64, bytes: &[u8]) -> Option<Found> {
        let is_it = match (&self.marks.build_id, mapped.elf) {
            (Some(own), Some(elf)) => *own == elf.build_id,
            _ => self.path.file_name() == Some(Path::new(mapped.path).file_name()?),
        };
        is_it.then_some(())?;
        let address = self.code.as_ref()?.address_of(offset)?;
        (self.has(address, bytes) == Some(true)).then_some(())?;
        Some(self.found(self.table.find(address)?, address))
    }
}

fn read_elf(
    guest_file: GuestFile,
    file: File,
    debug: &DebugDirectories,
) -> Result<SymbolFile, SymbolsError> {
    let GuestFile { text, path, load_offset } = guest_file;
    let elf_error = |source| SymbolsError::Elf { path: path.clone(), source };
    let elf = Elf::read(file).map_err(elf_error)?;
    let is_unplaced = elf.position_independent && load_offset.is_none();
    let (build_id, link) = (elf.build_id(), elf.debug_link());
    let mut names = ElfNames::read(elf).map_err(elf_error)?;
    if names.table.is_empty() {
        let ElfNames { table, marks, info, .. } = debug.names_of_stripped(&path, build_id, link)?;
        names = ElfNames { table, marks, info, code: names.code };
    }
    let ElfNames { table, marks, code, info } = names;
    let has_fit = AtomicBool::new(false);
    let (code, info) = (Some(code), Some(info));
    Ok(SymbolFile { text, path, load_offset, is_unplaced, table, marks, code, info, has_fit })
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
            let has_fit = AtomicBool::new(false);
            let is_unplaced = false;
            Ok(SymbolFile {
                text,
                path,
                load_offset,
                is_unplaced,
                table,
                marks,
                code: None,
                info: None,
                has_fit,
            })
        }
        _ => Err(SymbolsError::Unknown(path)),
    }
}
