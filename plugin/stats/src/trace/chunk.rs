//! The frame of a chunk: a header of fixed size, with a checksum of itself and of the contents.

use super::decode::Damage;

/// The first bytes of each chunk, and so of a trace.
pub const MAGIC: [u8; 4] = *b"pvTr";

/// The version of the format. It changes whenever a reader of the previous version would misread a file.
const VERSION: u8 = 4;

/// Size of a header, in bytes.
pub(super) const HEADER: usize = 40;

/// Maximum size of a chunk that a reader accepts, in bytes. A greater length means damage.
const LONGEST: usize = 1 << 30;

/// The stream of requests from outside the guest. It is no vCPU's.
pub const REQUESTS: u32 = u32::MAX;

/// The kind of a chunk's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkKind {
    /// The head: data that is known at the start.
    Head = 0,
    /// Events of one vCPU, or requests.
    Events = 1,
    /// The end: data that is known at the end.
    End = 2,
}

/// The header of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The kind of its contents.
    pub kind: ChunkKind,
    /// The vCPU's number among those that count, or [`REQUESTS`]; 0 in chunks of other kinds.
    pub stream: u32,
    /// QEMU's index of the vCPU; 0 if there is none.
    pub vcpu: u32,
    /// Chunks of this stream before it.
    pub sequence: u32,
    /// The number of its events.
    pub events: u32,
    /// The time of the start of its first event, in host nanoseconds since the trace began.
    pub start: u64,
}

/// Returns the bytes of a chunk: header and contents.
///
/// # Panics
///
/// If the contents have 1 GiB or more.
pub fn chunk(header: &ChunkHeader, contents: &[u8]) -> Vec<u8> {
    assert!(contents.len() < LONGEST, "a chunk has less than 1 GiB");
    let mut bytes = Vec::with_capacity(HEADER + contents.len());
    bytes.extend(MAGIC);
    bytes.extend([header.kind as u8, VERSION, 0, 0]);
    for word in [header.stream, header.vcpu, header.sequence, header.events] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend((contents.len() as u32).to_le_bytes());
    bytes.extend(header.start.to_le_bytes());
    bytes.extend(checksum(&bytes, contents).to_le_bytes());
    bytes.extend(contents);
    bytes
}

fn checksum(header: &[u8], contents: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(header);
    crc.update(contents);
    crc.finalize()
}

/// A header that was read, with the checksum of the contents.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadHeader {
    pub header: ChunkHeader,
    /// Size of the contents, in bytes.
    pub len: usize,
    bytes: [u8; HEADER],
}

impl ReadHeader {
    /// Parses a header.
    pub fn parse(bytes: [u8; HEADER]) -> Result<ReadHeader, Damage> {
        if bytes[..4] != MAGIC {
            return Err(Damage("no chunk begins here"));
        }
        if bytes[5] != VERSION {
            return Err(Damage("a chunk is of another version of the format"));
        }
        let kind = match bytes[4] {
            0 => ChunkKind::Head,
            1 => ChunkKind::Events,
            2 => ChunkKind::End,
            _ => return Err(Damage("a chunk is of an unknown kind")),
        };
        let word = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("in bounds"));
        let start = u64::from_le_bytes(*bytes[28..].first_chunk().expect("in bounds"));
        let len = word(24) as usize;
        if len >= LONGEST {
            return Err(Damage("a chunk has an impossible length"));
        }
        let header = ChunkHeader {
            kind,
            stream: word(8),
            vcpu: word(12),
            sequence: word(16),
            events: word(20),
            start,
        };
        Ok(ReadHeader { header, len, bytes })
    }

    /// Fails unless the contents are those that were written.
    pub fn check(&self, contents: &[u8]) -> Result<(), Damage> {
        let (header, crc) = self.bytes.split_at(HEADER - 4);
        let expected = u32::from_le_bytes(*crc.first_chunk().expect("the last four bytes"));
        match checksum(header, contents) == expected {
            true => Ok(()),
            false => Err(Damage("a chunk's checksum is wrong")),
        }
    }
}
