//! Looks up the symbols of one file by address.

use super::demangle::demangle;

/// The maximum length of a name in bytes; longer names are cut.
const MAX_NAME: usize = 1024;

/// A symbol of code, or of data that ends the code before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    pub address: u64,
    /// The first address after it.
    pub end: u64,
    /// True if the file gives its size. A symbol without a size ends at the next symbol or earlier.
    pub sized: bool,
    /// The offset of the name in the table's names; `None` for data.
    pub name: Option<usize>,
}

/// Symbols by address, with the data between them.
#[derive(Debug)]
pub(super) struct Table {
    /// Sorted by address, at most one per address.
    symbols: Vec<Symbol>,
    /// The names, each followed by a delimiter.
    names: Vec<u8>,
    delimiter: fn(u8) -> bool,
}

impl Table {
    /// Sorts the symbols. For each address the first symbol with a size wins, else the first.
    pub fn new(mut symbols: Vec<Symbol>, names: Vec<u8>, delimiter: fn(u8) -> bool) -> Table {
        symbols.sort_by_key(|symbol| (symbol.address, symbol.name.is_none(), !symbol.sized));
        symbols.dedup_by_key(|symbol| symbol.address);
        Table { symbols, names, delimiter }
    }

    /// Returns true if the table has no code.
    pub fn is_empty(&self) -> bool {
        self.symbols.iter().all(|symbol| symbol.name.is_none())
    }

    /// The highest address of a symbol.
    pub fn last_address(&self) -> Option<u64> {
        self.symbols.last().map(|symbol| symbol.address)
    }

    /// Returns true if a symbol of code starts at an address.
    pub fn starts_code(&self, address: u64) -> bool {
        let found = self.symbols.binary_search_by_key(&address, |symbol| symbol.address);
        found.is_ok_and(|index| self.symbols[index].name.is_some())
    }

    /// Names an address as `symbol` or `symbol+0x12`.
    pub fn find(&self, address: u64) -> Option<String> {
        let after = self.symbols.partition_point(|symbol| symbol.address <= address);
        let symbol = &self.symbols[after.checked_sub(1)?];
        if address >= symbol.end {
            return None;
        }
        let name = self.printable(symbol.name?)?;
        let name = demangle(&name).unwrap_or(name);
        Some(match address - symbol.address {
            0 => name,
            offset => format!("{name}+{offset:#x}"),
        })
    }

    /// The name at an offset, without control characters.
    fn printable(&self, start: usize) -> Option<String> {
        let rest = self.names.get(start..)?;
        let name = rest.split(|&byte| (self.delimiter)(byte)).next()?;
        let shown = String::from_utf8_lossy(&name[..name.len().min(MAX_NAME)]);
        let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        let mut shown: String = shown.chars().map(clean).collect();
        if name.len() > MAX_NAME {
            shown.push_str("...");
        }
        (!shown.is_empty()).then_some(shown)
    }
}
