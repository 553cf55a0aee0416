//! What several fuzz targets need.

mod elf_file;
mod memory_file;
mod trace_file;

pub use elf_file::{PLACES, elf_file};
pub use memory_file::MemoryFile;
pub use trace_file::trace_file;

/// Ports that policies and models tell apart, and the ends of the range.
pub const PORTS: [u16; 12] =
    [0, 0x20, 0x40, 0x60, 0x70, 0x80, 0x1f0, 0x2f8, 0x3f8, 0x402, 0xcf8, 0xffff];

/// Two dumps of the corpus, one with call chains and hypercalls, for what is applied to a dump.
///
/// # Panics
///
/// If they cannot be read.
pub fn dumps() -> Vec<pvio_stats::Snapshot> {
    let dumps =
        [&include_bytes!("../corpus/dump/calls")[..], include_bytes!("../corpus/dump/poweroff")];
    let read = |dump: &[u8]| pvio_stats::Snapshot::from_json(dump).expect("the corpus has dumps");
    dumps.map(read).into()
}

/// Checks that a message is one line, which leaves a terminal alone.
///
/// # Panics
///
/// If it is not.
pub fn assert_message(message: &impl std::fmt::Display) {
    let text = message.to_string();
    assert!(!text.is_empty(), "a message has a text");
    assert!(!text.chars().any(char::is_control), "a message is one line: {text:?}");
}

/// Checks that text of several lines leaves a terminal alone.
///
/// # Panics
///
/// If it does not.
pub fn assert_text(text: &str) {
    let character = text.chars().find(|&character| character.is_control() && character != '\n');
    assert_eq!(character, None, "{text:?}");
}
