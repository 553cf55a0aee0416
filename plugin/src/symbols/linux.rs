//! Checks whether a symbol file describes the running Linux kernel, and finds the load offset.
//!
//! The running kernel is found in guest memory without the file ([`crate::guest`]), with its own symbol table. A file
//! matches if it has the kernel's build id. A file without a build id, such as System.map, matches if it has the
//! kernel's symbols, all at the same distance.

use super::table::Table;
use crate::guest::Kernel;

/// A file may lack one in this many of the kernel's symbols. Tools that list symbols leave out some.
const MISSING: usize = 200;
/// Minimum number of symbols that can identify a kernel.
const FEWEST: usize = 1000;

/// The symbols and the build id by which a file identifies a kernel.
#[derive(Debug, Default)]
pub(super) struct Marks {
    stext: Option<u64>,
    etext: Option<u64>,
    has_banner: bool,
    /// In hexadecimal; a map has none.
    pub build_id: Option<String>,
}

impl Marks {
    /// Records a symbol's address if the symbol identifies a kernel.
    pub fn record(&mut self, name: &[u8], address: u64) {
        match name {
            b"_stext" => self.stext = Some(address),
            b"_etext" => self.etext = Some(address),
            b"linux_banner" => self.has_banner = true,
            _ => {}
        }
    }

    /// Returns true if the file describes a Linux kernel.
    pub fn are_linux(&self) -> bool {
        self.stext.is_some() && (self.has_banner || self.etext.is_some())
    }

    /// Run-time address minus address in the file, in bytes; `None` if the file describes another kernel.
    pub fn load_offset(&self, table: &Table, kernel: &Kernel) -> Option<u64> {
        let load_offset = kernel.stext().wrapping_sub(self.stext?);
        let fits = match (&self.build_id, kernel.build_id()) {
            (Some(own), Some(running)) => own == running,
            _ => has_all_symbols(table, load_offset, kernel),
        };
        fits.then_some(load_offset)
    }
}

fn has_all_symbols(table: &Table, load_offset: u64, kernel: &Kernel) -> bool {
    let (mut all, mut missing) = (0, 0);
    for start in kernel.starts() {
        all += 1;
        missing += usize::from(!table.starts_code(start.wrapping_sub(load_offset)));
    }
    all >= FEWEST && missing <= all / MISSING
}
