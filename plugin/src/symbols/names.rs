//! Names sites and callers, by all sources that match the guest at one moment.

use std::sync::PoisonError;

use super::file::Verdict;
use super::guest_kernel::{GuestKernels, Running};
use super::lines::Lines;
use super::{FIRMWARE, Found, GUEST_KERNEL, MappedFile, SiteName, Symbols};
use crate::guest::{Caller, Firmware, Kernel, PhysicalMemory};

/// Names by all sources that match the guest.
pub struct Names<'a> {
    symbols: &'a Symbols,
    verdicts: Vec<Verdict>,
    running: Running,
    /// `None` if a kernel runs, or if the firmware is not UEFI.
    firmware: Option<Firmware>,
    lines: Lines,
}

impl<'a> Names<'a> {
    pub(super) fn new(
        symbols: &'a Symbols,
        verdicts: Vec<Verdict>,
        running: Running,
        firmware: Option<Firmware>,
    ) -> Names<'a> {
        Names { symbols, verdicts, running, firmware, lines: Lines::default() }
    }

    /// Names a site. The first file that names it wins; the running kernel or the firmware comes last.
    pub fn name(&self, pc: u64, bytes: &[u8]) -> Option<SiteName> {
        let by_files = self.symbols.name_by_files(&self.verdicts, &self.running, pc, bytes);
        let found = by_files.or_else(|| match self.own_names() {
            Some((kernels, kernel)) => {
                let name = kernels.name(kernel, pc, bytes)?;
                let (symbol, is_in_module) = (name.to_string(), name.module.is_some());
                let ran = || self.symbols.modules.only_name(pc, bytes);
                (!is_in_module || ran().as_ref() == Some(&symbol)).then_some(())?;
                let name = SiteName { symbol, named_by: GUEST_KERNEL.to_owned(), source: None };
                Some(Found { name, line: self.symbols.debug.line_of_kernel(kernel, pc) })
            }
            None => self.firmware_name(pc, bytes),
        });
        found.map(|found| self.with_source(found))
    }

    /// Names code by a return address that is not in a known stack: the function is that of the byte before it.
    ///
    /// The code at the address is not compared with a file's, since it is not known.
    pub fn return_site(&self, pc: u64) -> Option<SiteName> {
        let name = self.name(pc.wrapping_sub(1), &[])?;
        Some(SiteName { symbol: later(&name.symbol, 1), ..name })
    }

    /// Adds the source line.
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
            // The code of either may have run.
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

    /// Returns true if UEFI firmware names sites.
    pub fn has_firmware(&self) -> bool {
        self.firmware.is_some()
    }

    /// Names a caller in a call chain. The offset is that of the return address.
    pub fn caller(&self, caller: &Caller) -> Option<String> {
        let (address, after) = (caller.frame.address(), caller.frame.after());
        // The last byte of a call is not patched; code after it may be.
        let code = &caller.code[..1];
        let named = self.symbols.name_by_files(&self.verdicts, &self.running, address, code);
        named.map(|found| later(&found.name.symbol, after)).or_else(|| {
            let (kernels, kernel) = self.own_names()?;
            let known = caller.in_module.as_ref().map(ToString::to_string);
            known.or_else(|| kernels.caller(kernel, address, after))
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

    /// The running kernel, if it names code that no file names.
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

/// Adds to the offset of `symbol`, `symbol+0x12` or `symbol+0x12 [module]`.
pub fn later(name: &str, after: u64) -> String {
    if let Some((name, module)) = name.rsplit_once(" [") {
        return format!("{} [{module}", later(name, after));
    }
    let offset = name
        .rsplit_once("+0x")
        .and_then(|(symbol, offset)| Some((symbol, u64::from_str_radix(offset, 16).ok()?)));
    let (symbol, offset) = offset.unwrap_or((name, 0));
    match offset + after {
        0 => symbol.to_owned(),
        offset => format!("{symbol}+{offset:#x}"),
    }
}
