//! The frames of the protocol, which `docs/socket-device.md` describes byte by byte.

use std::fmt;

/// The version of the protocol.
pub(super) const VERSION: u32 = 1;

/// The value of a hello: the bytes `PVIO`.
pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"PVIO");

/// The length of a frame in bytes, without the data of a string.
pub(super) const FRAME: usize = 16;

/// The most bytes of data that follow a frame.
pub(super) const MAX_DATA: usize = 4096;

/// Added to the kind of a request in its answer.
pub(super) const ANSWER: u8 = 0x80;

/// The kinds of frames.
pub(super) mod kind {
    pub const HELLO: u8 = 1;
    pub const READ: u8 = 2;
    pub const WRITE: u8 = 3;
    pub const READ_STRING: u8 = 4;
    pub const WRITE_STRING: u8 = 5;
    pub const RESET: u8 = 6;
    pub const IRQ: u8 = 7;
    pub const END: u8 = 8;
    pub const SAW_READ: u8 = 9;
    pub const SAW_WRITE: u8 = 10;
}

/// A frame. All fields are little-endian; a field that a kind does not use is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    pub kind: u8,
    /// The size of an element, in bytes.
    pub size: u8,
    /// The port, counted from the device's first port.
    pub offset: u16,
    pub value: u32,
    /// The number of elements of a string.
    pub count: u32,
    /// The request's number, which its answer repeats; 0 if none is wanted.
    pub id: u32,
}

impl Frame {
    pub fn to_bytes(self) -> [u8; FRAME] {
        let mut bytes = [0; FRAME];
        bytes[0] = self.kind;
        bytes[1] = self.size;
        bytes[2..4].copy_from_slice(&self.offset.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.value.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8; FRAME]) -> Frame {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Frame {
            kind: bytes[0],
            size: bytes[1],
            offset: u16::from_le_bytes([bytes[2], bytes[3]]),
            value: word(4),
            count: word(8),
            id: word(12),
        }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.to_bytes() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_documentation_has_them() {
        let frame = Frame {
            kind: 4,
            size: 2,
            offset: 0x0605,
            value: 0x0a09_0807,
            count: 0x0e0d_0c0b,
            id: 0x1211_100f,
        };
        assert_eq!(frame.to_string(), "040205060708090a0b0c0d0e0f101112");
        assert_eq!(Frame::from_bytes(&frame.to_bytes()), frame);
    }
}
