//! Parses System.map, `/proc/kallsyms` and `nm` output: lines of address, type and name.

use super::linux::Marks;
use super::table::{Symbol, Table};

/// The maximum distance to the next symbol in bytes. A symbol further away ends with its page.
const MAX_SIZE: u64 = 64 << 10;

/// Symbols that mark the end of code and are not code.
const ENDS: [&str; 6] = ["_etext", "etext", "__etext", "_einittext", "_end", "end"];

/// Parses lines such as `ffffffff81000000 T _stext`. Returns `None` if any line has another form.
///
/// `nm` prints undefined symbols without an address; they are skipped. `/proc/kallsyms` appends a
/// module's name; a module loads at another address in each boot, so its symbols name nothing.
pub(super) fn read(text: String) -> Option<(Table, Marks)> {
    let mut symbols = Vec::new();
    let mut marks = Marks::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (first, second) = (words.next(), words.next());
        let (address, kind, name) = match (first, second, words.next()) {
            (None, ..) | (Some("U" | "w" | "v"), Some(_), None) => continue,
            (Some(address), Some(kind), Some(name)) if kind.len() == 1 => (address, kind, name),
            _ => return None,
        };
        let address = u64::from_str_radix(address, 16).ok()?;
        let is_of_module = words.next().is_some_and(|module| module.starts_with('['));
        let is_code =
            matches!(kind, "t" | "T" | "w" | "W") && !ENDS.contains(&name) && !is_of_module;
        if !is_of_module {
            marks.record(name.as_bytes(), address);
        }
        let start = name.as_ptr().addr() - text.as_ptr().addr();
        symbols.push(Symbol { address, end: 0, sized: false, name: is_code.then_some(start) });
    }
    // Data counts, too: a function ends where any other symbol starts.
    let mut addresses: Vec<u64> = symbols.iter().map(|symbol| symbol.address).collect();
    addresses.sort_unstable();
    for symbol in &mut symbols {
        let next = addresses.get(addresses.partition_point(|&next| next <= symbol.address));
        let end_of_page = (symbol.address | 0xfff).saturating_add(1);
        let is_near = |next: &u64| next - symbol.address <= MAX_SIZE;
        symbol.end = next.copied().filter(is_near).unwrap_or(end_of_page);
    }
    Some((Table::new(symbols, text.into_bytes(), |byte| byte.is_ascii_whitespace()), marks))
}
