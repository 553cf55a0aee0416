//! Reads the firmware's list of loaded images, which it keeps for debuggers.
//!
//! UEFI specification 2.10: 18.4 (`EFI_SYSTEM_TABLE_POINTER`, `EFI_DEBUG_IMAGE_INFO_TABLE_HEADER`), 4.3 (system table),
//! 9.1 (`EFI_LOADED_IMAGE_PROTOCOL`), 10.3 (device paths).

use std::ops::Range;

use super::image::{u16_in, u32_in};
use super::{bytes, name_at, u64_at};
use crate::guest::PhysicalMemory;

/// `EFI_SYSTEM_TABLE_SIGNATURE`.
const SIGNATURE: &[u8; 8] = b"IBI SYST";
/// The pointer to the system table is at a multiple of this.
const STEP: usize = 4 << 20;
/// `EFI_DEBUG_IMAGE_INFO_TABLE_GUID`, as it is in memory.
const TABLE: [u8; 16] = [
    0x77, 0x2e, 0x15, 0x49, 0xda, 0x1a, 0x64, 0x47, 0xb7, 0xa2, 0x7a, 0xfe, 0xfe, 0xd9, 0x5e, 0x8b,
];
/// `EFI_DEBUG_IMAGE_INFO_TYPE_NORMAL`.
const NORMAL: u32 = 1;

/// Limits: tables of the system table, images, nodes of a path, characters of a name.
const MOST_TABLES: u64 = 256;
const MOST_IMAGES: u32 = 1024;
const MOST_NODES: usize = 16;
const LONGEST_NAME: u64 = 128;
/// The biggest image.
const BIGGEST: u64 = 256 << 20;

/// An image that the firmware has loaded.
#[derive(Debug)]
pub(super) struct LoadedImage {
    pub code: Range<u64>,
    /// The name of its file on a disk.
    pub name: Option<String>,
    /// The GUID of its file in a firmware volume.
    pub file: Option<[u8; 16]>,
}

/// Reads the images in the list. Returns `None` if there is none yet.
pub(super) fn images(
    memory: &impl PhysicalMemory,
    ranges: &[Range<u64>],
) -> Option<Vec<LoadedImage>> {
    let first = |range: &Range<u64>| range.start.next_multiple_of(STEP as u64)..range.end;
    let places = ranges.iter().map(first).flat_map(|range| range.step_by(STEP));
    places.filter_map(|place| system_table(memory, place)).find_map(|table| list(memory, table))
}

/// The system table that the pointer at an address leads to.
fn system_table(memory: &impl PhysicalMemory, place: u64) -> Option<u64> {
    let has_signature = |at| bytes(memory, at).as_ref() == Some(SIGNATURE);
    has_signature(place).then_some(())?;
    let table = u64_at(memory, place.checked_add(8)?)?;
    has_signature(table).then_some(table)
}

/// The size of addresses in the structures, and offsets in them, in bytes.
struct Layout {
    word: u64,
    /// In the system table.
    table_count: u64,
    tables: u64,
    /// In `EFI_LOADED_IMAGE_PROTOCOL`.
    path: u64,
    base: u64,
    size: u64,
}

const LAYOUT_64: Layout =
    Layout { word: 8, table_count: 104, tables: 112, path: 32, base: 64, size: 72 };
/// A `UINT64` is aligned to 8 bytes here, too.
const LAYOUT_32: Layout =
    Layout { word: 4, table_count: 64, tables: 68, path: 16, base: 32, size: 40 };

impl Layout {
    /// The layout of the firmware with this system table, by the table's size.
    fn of(memory: &impl PhysicalMemory, system_table: u64) -> Option<&'static Layout> {
        let header: [u8; 16] = bytes(memory, system_table)?;
        match u32_in(&header, 12) {
            120 => Some(&LAYOUT_64),
            72 => Some(&LAYOUT_32),
            _ => None,
        }
    }

    /// Reads an address or another word of its size.
    fn word(&self, memory: &impl PhysicalMemory, address: u64) -> Option<u64> {
        match self.word {
            8 => u64_at(memory, address),
            _ => bytes(memory, address).map(u32::from_le_bytes).map(u64::from),
        }
    }
}

fn list(memory: &impl PhysicalMemory, system_table: u64) -> Option<Vec<LoadedImage>> {
    let layout = Layout::of(memory, system_table)?;
    let word = |start: u64, offset: u64| layout.word(memory, start.checked_add(offset)?);
    let count = word(system_table, layout.table_count)?;
    let tables = word(system_table, layout.tables)?;
    // A GUID, and an address.
    let entry_size = 16 + layout.word;
    let table = (0..count.min(MOST_TABLES)).find_map(|index| {
        let entry = tables.checked_add(entry_size * index)?;
        let guid: [u8; 16] = bytes(memory, entry)?;
        (guid == TABLE).then(|| word(entry, 16))?
    })?;
    let header: [u8; 8] = bytes(memory, table)?;
    let entries = word(table, 8)?;
    let count = u32_in(&header, 4).min(MOST_IMAGES);
    // An entry of an image that was unloaded is 0.
    let image = |index| image(memory, layout, word(entries, layout.word * u64::from(index))?);
    Some((0..count).filter_map(image).collect())
}

fn image(memory: &impl PhysicalMemory, layout: &Layout, info: u64) -> Option<LoadedImage> {
    let kind = u32::from_le_bytes(bytes(memory, info)?);
    (kind == NORMAL).then_some(())?;
    let word = |start: u64, offset: u64| layout.word(memory, start.checked_add(offset)?);
    // The kind takes a word.
    let protocol = word(info, layout.word)?;
    let (path, base) = (word(protocol, layout.path)?, word(protocol, layout.base)?);
    let size = u64_at(memory, protocol.checked_add(layout.size)?)?;
    (1..=BIGGEST).contains(&size).then_some(())?;
    let mut image = LoadedImage { code: base..base.checked_add(size)?, name: None, file: None };
    read_path(memory, path, &mut image);
    Some(image)
}

/// Reads the device path from which an image was loaded.
fn read_path(memory: &impl PhysicalMemory, mut node: u64, image: &mut LoadedImage) -> Option<()> {
    for _ in 0..MOST_NODES {
        let header: [u8; 4] = bytes(memory, node)?;
        let length = u64::from(u16_in(&header, 2));
        match header[..2] {
            // A file path of a disk.
            [4, 4] => {
                let path = name_at(memory, node + 4, (length / 2).min(LONGEST_NAME))?;
                image.name = path.rsplit('\\').next().map(str::to_owned);
            }
            // A file of a firmware volume.
            [4, 6] => image.file = bytes(memory, node + 4),
            [0x7f, _] => return Some(()),
            _ => {}
        }
        node = node.checked_add(length.max(4))?;
    }
    None
}
