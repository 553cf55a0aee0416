//! The structures that calls use in memory: the records of a batch, and the mailbox.

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
