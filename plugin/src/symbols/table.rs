//! The symbols of one file, by address.

/// The longest name that is shown whole.
const MAX_NAME: usize = 1024;

/// What begins at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    pub address: u64,
    /// The first address after it.
    pub end: u64,
    /// Whether the file gives its size. The others end where the next symbol begins, if not before.
    pub sized: bool,
    /// Where its name begins; `None` for what is not code, and ends the code before it.
    pub name: Option<usize>,
}

/// Symbols of code, with what lies between them.
#[derive(Debug)]
pub(super) struct Table {
    /// Sorted by address, one for each.
    symbols: Vec<Symbol>,
    /// Where names are, each with a delimiter after it.
    names: Vec<u8>,
    delimiter: fn(u8) -> bool,
}

impl Table {
    /// Of several names for an address the first with a size is taken, else the first.
    pub fn new(mut symbols: Vec<Symbol>, names: Vec<u8>, delimiter: fn(u8) -> bool) -> Table {
        symbols.sort_by_key(|symbol| (symbol.address, symbol.name.is_none(), !symbol.sized));
        symbols.dedup_by_key(|symbol| symbol.address);
        Table { symbols, names, delimiter }
    }

    /// Whether there is no code.
    pub fn is_empty(&self) -> bool {
        self.symbols.iter().all(|symbol| symbol.name.is_none())
    }

    /// The highest address at which something begins.
    pub fn last_address(&self) -> Option<u64> {
        self.symbols.last().map(|symbol| symbol.address)
    }

    /// Whether a symbol of code begins at an address.
    pub fn starts_code(&self, address: u64) -> bool {
        let found = self.symbols.binary_search_by_key(&address, |symbol| symbol.address);
        found.is_ok_and(|index| self.symbols[index].name.is_some())
    }

    /// The name of what an address is in, as `name` or `name+0x12`.
    pub fn find(&self, address: u64) -> Option<String> {
        let after = self.symbols.partition_point(|symbol| symbol.address <= address);
        let symbol = &self.symbols[after.checked_sub(1)?];
        if address >= symbol.end {
            return None;
        }
        let name = self.printable(symbol.name?)?;
        Some(match address - symbol.address {
            0 => name,
            offset => format!("{name}+{offset:#x}"),
        })
    }

    /// A name without what would disturb a terminal.
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
