//! Finds source files and lines of code, by DWARF.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use gimli::{Dwarf, EndianArcSlice, LittleEndian};

use crate::elf::Elf;
use crate::untrusted_text::escape;

/// Maximum size of the debug information of one file, in bytes.
const MOST: u64 = 512 << 20;
/// The longest path in bytes; of longer ones the end is kept.
const LONGEST: usize = 1024;

type Context = addr2line::Context<EndianArcSlice<LittleEndian>>;

/// A file that may have debug information, not yet read.
#[derive(Debug)]
pub(super) struct DebugInfo(Option<File>);

impl DebugInfo {
    pub fn of(file: &File) -> DebugInfo {
        DebugInfo(file.try_clone().ok())
    }
}

/// An address in a file that may have debug information.
pub(super) type AddressIn = (Arc<DebugInfo>, u64);

/// The debug information that was read for one dump.
#[derive(Default)]
pub(super) struct Lines {
    /// Keyed by the address of the file's [`DebugInfo`]; `None` if that is not usable.
    read: RefCell<HashMap<usize, Option<Context>>>,
}

impl Lines {
    /// The source of the instruction at an address, as `path/file.c:123`.
    pub fn find(&self, (info, address): &AddressIn) -> Option<String> {
        let mut read = self.read.borrow_mut();
        let key = Arc::as_ptr(info) as usize;
        let context = read.entry(key).or_insert_with(|| load(info)).as_ref()?;
        let location = context.find_location(*address).ok()??;
        let (file, line) = (location.file?, location.line?);
        let cut = file.len().saturating_sub(LONGEST);
        Some(format!("{}:{line}", escape(&file.as_bytes()[cut..])))
    }
}

fn load(info: &DebugInfo) -> Option<Context> {
    let elf = Elf::read(info.0.as_ref()?.try_clone().ok()?).ok()?;
    let mut sections = elf.debug_sections(MOST).ok()?;
    let load = |id: gimli::SectionId| {
        let section = sections.remove(id.name()).unwrap_or_default();
        Ok::<_, std::convert::Infallible>(EndianArcSlice::new(section.into(), LittleEndian))
    };
    let Ok(dwarf) = Dwarf::load(load);
    Context::from_dwarf(dwarf).ok()
}
