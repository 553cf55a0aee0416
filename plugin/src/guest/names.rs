//! Names of code by address, kept compactly.

use std::fmt;
use std::ops::Range;

/// What may be kept, of all names together: a guest can claim to have any number.
#[derive(Debug)]
pub(super) struct Budget {
    symbols: usize,
    bytes: usize,
}

impl Budget {
    /// For one kernel and its modules. Debian's biggest kernels use a fifth of it.
    pub(super) fn new() -> Budget {
        Budget { symbols: MOST_SYMBOLS, bytes: 6 << 20 }
    }
}

/// How many symbols a kernel may have.
pub(super) const MOST_SYMBOLS: usize = 600_000;

/// The longest name: Linux's `KSYM_NAME_LEN`.
pub(super) const LONGEST_NAME: usize = 512;

/// The name of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'k> {
    /// The function.
    pub symbol: &'k str,
    /// How far the address is into it.
    pub offset: u64,
    /// The module that it is in, if it is not the kernel itself.
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

/// Where a symbol begins, relative to the first, and where its name is.
#[derive(Clone, Copy, Debug)]
struct Start {
    offset: u32,
    name: u32,
}

/// The name of what has none.
const UNNAMED: u32 = u32::MAX;

/// Names of a piece of code, of the kernel or of one module.
#[derive(Debug)]
pub(super) struct Names {
    range: Range<u64>,
    module: Option<String>,
    starts: Vec<Start>,
    /// The names, each with a zero byte after it.
    text: Vec<u8>,
}

impl Names {
    /// None yet, for addresses in `range`, which may have as many bytes as fit in 32 bits.
    pub(super) fn new(range: Range<u64>, module: Option<String>, capacity: usize) -> Names {
        Names { range, module, starts: Vec::with_capacity(capacity), text: Vec::new() }
    }

    /// Adds a symbol at or after the last one. Of several at one address the first with a name counts, as
    /// for the kernel's own `%pS`. One without a name ends the symbol before it.
    pub(super) fn push(
        &mut self,
        address: u64,
        name: Option<&[u8]>,
        budget: &mut Budget,
    ) -> Option<()> {
        let offset = u32::try_from(address.checked_sub(self.range.start)?).ok()?;
        match self.starts.last_mut() {
            Some(last) if last.offset == offset && last.name != UNNAMED => return Some(()),
            // Its range begins again, with a name.
            Some(last) if last.offset == offset => _ = self.starts.pop(),
            Some(last) if last.name == UNNAMED && name.is_none() => return Some(()),
            _ => {}
        }
        let name = match name {
            None => UNNAMED,
            Some(name) => {
                budget.bytes = budget.bytes.checked_sub(name.len() + 1)?;
                let at = u32::try_from(self.text.len()).ok()?;
                self.text.extend_from_slice(name);
                self.text.push(0);
                at
            }
        };
        budget.symbols = budget.symbols.checked_sub(1)?;
        self.starts.push(Start { offset, name });
        Some(())
    }

    /// Ends the last symbol, and takes away the name of one that begins right here.
    pub(super) fn end(&mut self, address: u64) {
        let Some(offset) = address.checked_sub(self.range.start) else { return };
        let Ok(offset) = u32::try_from(offset) else { return };
        if self.starts.last().is_some_and(|last| last.offset == offset) {
            self.starts.pop();
        }
        self.starts.push(Start { offset, name: UNNAMED });
    }

    /// Gives back memory that was set aside.
    pub(super) fn finish(mut self) -> Names {
        self.starts.shrink_to_fit();
        self.text.shrink_to_fit();
        self
    }

    /// The name of an address.
    pub(super) fn name(&self, address: u64) -> Option<Name<'_>> {
        if !self.range.contains(&address) {
            return None;
        }
        let offset = address - self.range.start;
        let after = self.starts.partition_point(|start| u64::from(start.offset) <= offset);
        let start = self.starts[after.checked_sub(1)?];
        let text = self.text.get(start.name as usize..)?;
        let symbol = std::str::from_utf8(&text[..memchr::memchr(0, text)?]).ok()?;
        let offset = offset - u64::from(start.offset);
        Some(Name { symbol, offset, module: self.module.as_deref() })
    }
}

/// Whether this can be a symbol's name: it reaches terminals and files.
pub(super) fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= LONGEST_NAME && name.iter().all(u8::is_ascii_graphic)
}
