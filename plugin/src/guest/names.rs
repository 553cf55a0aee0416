//! Names of code by address, kept compactly.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::modules::LoadedCode;

/// The memory left for names. A guest can claim to have any number of them.
#[derive(Debug)]
pub(super) struct Budget {
    symbols: usize,
    bytes: usize,
    /// The entries of modules' symbol tables that are still read.
    pub(super) module_symbols: u32,
}

impl Budget {
    /// The budget of one kernel and its modules. Debian's biggest kernels use a fifth of it.
    pub(super) fn new() -> Budget {
        Budget { symbols: MOST_SYMBOLS, bytes: 6 << 20, module_symbols: 1 << 18 }
    }
}

/// Maximum number of symbols of a kernel.
pub(super) const MOST_SYMBOLS: usize = 600_000;

/// The longest name in bytes: Linux's `KSYM_NAME_LEN`.
pub(super) const LONGEST_NAME: usize = 512;

/// The name of a code address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'k> {
    /// The function.
    pub symbol: &'k str,
    /// The distance in bytes from the beginning of the function.
    pub offset: u64,
    /// The module of the function; `None` for the kernel itself.
    pub module: Option<&'k str>,
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.symbol)?;
        if self.offset != 0 {
            write!(formatter, "+{:#x}", self.offset)?;
        }
        match self.module {
            Some(module) => write!(formatter, " [{module}]"),
            None => Ok(()),
        }
    }
}

/// A symbol: its offset in the code, and the offset of its name.
#[derive(Clone, Copy, Debug)]
struct Start {
    offset: u32,
    name: u32,
}

/// The names of a piece of code, of the kernel or of a module. Each symbol ends where the next begins.
#[derive(Debug)]
pub(super) struct Names {
    code: Range<u64>,
    /// `None` for the kernel's own code.
    module: Option<Arc<LoadedCode>>,
    starts: Vec<Start>,
    /// The names, each with a zero byte after it.
    text: Vec<u8>,
}

impl Names {
    /// Creates an empty table for this code.
    pub(super) fn new(code: Range<u64>, module: Option<Arc<LoadedCode>>) -> Names {
        Names { code, module, starts: Vec::new(), text: Vec::new() }
    }

    /// The linear addresses of the code.
    pub(super) fn code(&self) -> &Range<u64> {
        &self.code
    }

    /// Returns true if an address is in the code.
    pub(super) fn has(&self, address: u64) -> bool {
        self.code.contains(&address)
    }

    /// Adds a symbol at or after the last one. Returns `None` if there is no room.
    ///
    /// Of several symbols at one address the first counts, as in the kernel's own `%pS`.
    pub(super) fn push(&mut self, address: u64, name: &[u8], budget: &mut Budget) -> Option<()> {
        let offset = u32::try_from(address.checked_sub(self.code.start)?).ok()?;
        if self.starts.last().is_some_and(|last| last.offset == offset) {
            return Some(());
        }
        budget.symbols = budget.symbols.checked_sub(1)?;
        budget.bytes = budget.bytes.checked_sub(name.len() + 1)?;
        self.starts.push(Start { offset, name: u32::try_from(self.text.len()).ok()? });
        self.text.extend_from_slice(name);
        self.text.push(0);
        Some(())
    }

    /// Frees spare capacity.
    pub(super) fn finish(mut self) -> Names {
        self.starts.shrink_to_fit();
        self.text.shrink_to_fit();
        self
    }

    /// The module that has this code; `None` for the kernel's own code.
    pub(super) fn module(&self) -> Option<&Arc<LoadedCode>> {
        self.module.as_ref()
    }

    /// The addresses at which symbols begin, in ascending order.
    pub(super) fn starts(&self) -> impl Iterator<Item = u64> {
        self.starts.iter().map(|start| self.code.start + u64::from(start.offset))
    }

    /// The name of an address.
    pub(super) fn name(&self, address: u64) -> Option<Name<'_>> {
        if !self.has(address) {
            return None;
        }
        let offset = address - self.code.start;
        let after = self.starts.partition_point(|start| u64::from(start.offset) <= offset);
        let start = self.starts[after.checked_sub(1)?];
        let text = self.text.get(start.name as usize..)?;
        let symbol = std::str::from_utf8(&text[..memchr::memchr(0, text)?]).ok()?;
        let offset = offset - u64::from(start.offset);
        Some(Name { symbol, offset, module: self.module.as_ref().map(|it| it.module_name()) })
    }
}

/// Returns true if this can be the name of a symbol. Only printable ASCII is safe for terminals.
pub(super) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= LONGEST_NAME && name.iter().all(u8::is_ascii_graphic)
}
