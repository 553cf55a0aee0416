#![no_main]
//! Debug information (DWARF), build ids and debug links, in ELF files that are intact otherwise.

use fuzz::{MemoryFile, PLACES, assert_message, assert_text, elf_file};
use libfuzzer_sys::fuzz_target;
use pvio::guest_file::GuestFile;
use pvio::symbols::Symbols;

fuzz_target!(|data: &[u8]| {
    let file = MemoryFile::new(&elf_file(data));
    let guest_file = GuestFile::parse(&file.path().display().to_string()).expect("a file's name");
    let symbols = match Symbols::load(&[guest_file], &[], true) {
        Ok(symbols) => symbols,
        Err(error) => return assert_message(&error),
    };
    let names = symbols.judge(&[]);
    for pc in PLACES {
        if let Some(name) = names.name(pc, &[]) {
            assert_eq!(name.symbol.split('+').next(), Some("main"));
            assert_text(&name.source.unwrap_or_default());
        }
    }
});
