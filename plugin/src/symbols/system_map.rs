//! System.map, `/proc/kallsyms` and the output of `nm`: lines of address, kind and name.

use super::linux::Marks;
use super::table::{Symbol, Table};

/// The most that a symbol takes up to the next one. Beyond that, it ends with its page.
const MAX_SIZE: u64 = 64 << 10;

/// Symbols of code that only mark where code ends.
const ENDS: [&str; 6] = ["_etext", "etext", "__etext", "_einittext", "_end", "end"];

/// Lines of `ffffffff81000000 T _stext`, as `nm` and `/proc/kallsyms` print them. The former has lines
/// without an address. The latter adds a module's name: a module is elsewhere in each boot, so what is
/// in one gets no name. `None` when there are other lines.
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
            marks.see(name.as_bytes(), address);
        }
        let start = name.as_ptr().addr() - text.as_ptr().addr();
        symbols.push(Symbol { address, end: 0, sized: false, name: is_code.then_some(start) });
    }
    // Data too: a function ends where anything else begins.
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
