//! The structures that calls use in memory: the records of a batch, the mailboxes, and requests for files.

use core::mem::offset_of;

/// One operation of a batch: 16 bytes, little-endian, aligned to 16, the same in every mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Record {
    /// One of the twelve calls of port I/O.
    pub call: u8,
    /// The status; [`RECORD_PENDING`](super::RECORD_PENDING) until the record has run.
    pub status: u8,
    /// The port.
    pub port: u16,
    /// The value to write, or the value read, in the low bits; for a string, the elements left.
    pub value: u32,
    /// For a string, the linear address of the next element; else 0.
    pub address: u64,
}

const _: () = assert!(size_of::<Record>() == 16 && align_of::<Record>() == 16);

/// One operation of a compact batch: 8 bytes, little-endian, aligned to 8, the same in every mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct CompactRecord {
    /// One of the six calls that move one element.
    pub call: u8,
    /// 0.
    pub reserved: u8,
    /// The port.
    pub port: u16,
    /// The value to write, in the low bits, or the value read.
    pub value: u32,
}

const _: () = assert!(size_of::<CompactRecord>() == 8 && align_of::<CompactRecord>() == 8);

/// A CPU's mailbox for calls without registers: 16 bytes, little-endian, aligned to 16, the same in
/// every mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Mailbox {
    /// A [`CallWord`](super::CallWord) before, a [`Status`](super::Status) after.
    pub word: u32,
    /// The argument and the result that other calls have in EDX.
    pub value: u32,
    /// Identifies the mailbox: not 0, and 64 bits that do not occur elsewhere in memory by chance.
    pub key: u64,
}

const _: () = assert!(size_of::<Mailbox>() == 16 && align_of::<Mailbox>() == 16);

/// A CPU's large mailbox, for all calls: 64 bytes, little-endian, aligned to 64, the same in every mode.
///
/// It begins as a [`Mailbox`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct LargeMailbox {
    /// As in a [`Mailbox`].
    pub word: u32,
    /// As in a [`Mailbox`].
    pub value: u32,
    /// As in a [`Mailbox`].
    pub key: u64,
    /// The argument and the result that other calls have in RDX.
    pub address: u64,
    /// The argument and the result that other calls have in RCX.
    pub count: u64,
    /// The linear address of the code that the call is attributed to; 0 for the doorbell itself.
    pub site: u64,
    /// 0.
    pub reserved: [u64; 3],
}

const _: () = assert!(size_of::<LargeMailbox>() == 64 && align_of::<LargeMailbox>() == 64);
const _: () = assert!(
    offset_of!(LargeMailbox, value) == offset_of!(Mailbox, value)
        && offset_of!(LargeMailbox, key) == offset_of!(Mailbox, key)
);

/// The request of a call for a file: 64 bytes, little-endian, aligned to 64, the same in every mode.
///
/// A call advances `offset`, `address` and `count` by the bytes that it moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct FileRequest {
    /// The linear address of the file's name.
    pub name: u64,
    /// The length of the name in bytes.
    pub name_len: u32,
    /// 0.
    pub reserved: u32,
    /// 0 for the first part of a file; then what the host has left here.
    pub tag: u64,
    /// The offset in the file.
    pub offset: u64,
    /// The linear address of the next byte in memory.
    pub address: u64,
    /// The number of bytes left.
    pub count: u64,
    /// 0.
    pub reserved_too: [u64; 2],
}

const _: () = assert!(size_of::<FileRequest>() == 64 && align_of::<FileRequest>() == 64);
