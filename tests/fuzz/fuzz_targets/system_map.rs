#![no_main]
//! System.map files, and the names in them: C++ and Rust names are demangled.

use fuzz::{MemoryFile, assert_message, assert_text};
use libfuzzer_sys::fuzz_target;
use pvio::guest_file::GuestFile;
use pvio::symbols::Symbols;

fuzz_target!(|data: &[u8]| {
    let file = MemoryFile::new(data);
    let guest_file = GuestFile::parse(&file.path().display().to_string()).expect("a file's name");
    let symbols = match Symbols::load(&[guest_file], &[], false) {
        Ok(symbols) => symbols,
        Err(error) => return assert_message(&error),
    };
    let names = symbols.judge(&[]);
    // The addresses that the text itself has, and others.
    let text = String::from_utf8_lossy(data);
    let own = text.lines().filter_map(|line| u64::from_str_radix(line.split(' ').next()?, 16).ok());
    for pc in own.take(50).chain([0, 0x1000, u64::MAX]) {
        if let Some(name) = names.name(pc, &[]) {
            assert_text(&name.symbol);
        }
    }
});
