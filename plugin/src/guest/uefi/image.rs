//! Headers of executable images: PE32, PE32+ and TE.

use super::bytes;
use crate::guest::PhysicalMemory;

/// Maximum number of bytes before the PE header of an image.
const MAX_HEADER: u32 = 4096;

/// The fields of a header that loading does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImageHeader {
    machine: u16,
    sections: u16,
    time: u32,
    code_size: u32,
    entry: u32,
    /// The size of the image in memory, in bytes.
    pub size: u32,
    checksum: u32,
}

impl ImageHeader {
    /// Reads the header of a PE image at an address.
    pub fn read(memory: &impl PhysicalMemory, address: u64) -> Option<ImageHeader> {
        let dos: [u8; 64] = bytes(memory, address)?;
        dos.starts_with(b"MZ").then_some(())?;
        let at = u32_in(&dos, 0x3c);
        (at < MAX_HEADER).then_some(())?;
        let pe: [u8; 96] = bytes(memory, address.checked_add(at.into())?)?;
        pe.starts_with(b"PE\0\0").then_some(())?;
        Some(ImageHeader {
            machine: u16_in(&pe, 4),
            sections: u16_in(&pe, 6),
            time: u32_in(&pe, 8),
            code_size: u32_in(&pe, 28),
            entry: u32_in(&pe, 40),
            size: u32_in(&pe, 80),
            checksum: u32_in(&pe, 88),
        })
    }
}

/// The number of bytes that a TE image lacks of its PE image.
pub(super) fn stripped(memory: &impl PhysicalMemory, address: u64) -> Option<u64> {
    /// The size of a TE header.
    const HEADER: u16 = 40;
    let header: [u8; 8] = bytes(memory, address)?;
    header.starts_with(b"VZ").then_some(())?;
    u16_in(&header, 6).checked_sub(HEADER).map(u64::from)
}

pub(super) fn u16_in(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_in(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
