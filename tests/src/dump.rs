//! Reading and checking statistics dumps.

use pvio::stats::{SiteRow, Snapshot};

/// Reads a hexadecimal number, with or without `0x`.
///
/// # Panics
///
/// If the text is not such a number.
#[track_caller]
pub fn parse_hex(text: &str) -> u64 {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// The linear address of a site.
///
/// # Panics
///
/// If the dump has something else there.
#[track_caller]
pub fn site_pc(site: &SiteRow) -> u64 {
    site.address().unwrap_or_else(|| panic!("not an address: {site:?}"))
}

/// The bytes of a site's instruction.
///
/// # Panics
///
/// If the dump has something else there.
#[track_caller]
pub fn site_bytes(site: &SiteRow) -> Vec<u8> {
    let digits = |start: usize| u8::from_str_radix(&site.bytes[start..start + 2], 16).unwrap();
    (0..site.bytes.len()).step_by(2).map(digits).collect()
}

/// Splits a name of the dump, `name` or `name+0x12`, into the symbol and the offset from it.
pub fn split_symbol(symbol: &str) -> (&str, u64) {
    match symbol.rsplit_once("+0x") {
        Some((name, offset)) => (name, parse_hex(offset)),
        None => (symbol, 0),
    }
}

/// Fails unless the tables of a dump, and of each of its windows, add up to the same totals.
#[track_caller]
pub fn assert_consistent(stats: &Snapshot) {
    let found: Vec<String> = stats.discrepancies().iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{found:#?}");
}
