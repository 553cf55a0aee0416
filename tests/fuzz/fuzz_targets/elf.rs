#![no_main]
//! ELF files with symbols, debug information (DWARF) and links to debug files.

use fuzz::{MemoryFile, assert_message, assert_text};
use libfuzzer_sys::fuzz_target;
use pvio::guest::MappedElf;
use pvio::guest_file::GuestFile;
use pvio::sections::Sections;
use pvio::symbols::Symbols;

fuzz_target!(|data: &[u8]| {
    let data = [b"\x7fELF", data].concat();
    let file = MemoryFile::new(&data);
    let path = file.path().display();
    for text in [format!("{path}"), format!("{path}@0x1000")] {
        let guest_file = GuestFile::parse(&text).expect("the name of a file");
        if let Err(error) = Sections::load(&guest_file) {
            assert_message(&error);
        }
        let symbols = match Symbols::load(&[guest_file], &[], true) {
            Ok(symbols) => symbols,
            Err(error) => {
                assert_message(&error);
                continue;
            }
        };
        let names = symbols.judge(&[]);
        for pc in [0, 0x1000, 0x1010, 0x40_1000, 0x40_1010, 0xffff_ffff_8100_0000, u64::MAX] {
            if let Some(name) = names.name(pc, &[]) {
                assert_text(&name.symbol);
                assert_text(&name.source.unwrap_or_default());
            }
        }
        names
            .files()
            .filter_map(|(_, problem)| problem)
            .for_each(|problem| assert_message(&problem));
    }
    if let Some(elf) = MappedElf::parse(&data[..data.len().min(4096)]) {
        elf.address_of(0x1000);
    }
});
