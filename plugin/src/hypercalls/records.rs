//! The records of a batch, as they are in guest memory.

use pvio_guest::abi::status;
use vm_memory::VolatileArrayRef;

use super::port_io::IoCall;
use crate::bus::PortTarget;
use crate::stats::Call;
use crate::x86::{Direction, Port};

/// The little-endian word with which a [`pvio_guest::abi::Record`] begins, and which is all of a
/// [`pvio_guest::abi::CompactRecord`]: bits 0-7 the call, 8-15 the status or 0, 16-31 the port, 32-63 the value.
///
/// Loading and storing the structures field by field would defeat the processor's store forwarding.
#[derive(Clone, Copy)]
pub(super) struct RecordWord(pub u64);

impl RecordWord {
    /// All but the value.
    pub fn head(self) -> u32 {
        self.0 as u32
    }

    /// The number of the call.
    pub fn number(self) -> u8 {
        self.0 as u8
    }

    pub fn port(self) -> Port {
        Port((self.0 >> 16) as u16)
    }

    pub fn value(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub fn with_value(self, value: u32) -> RecordWord {
        RecordWord(u64::from(self.head()) | u64::from(value) << 32)
    }
}

/// A [`pvio_guest::abi::Record`] as two little-endian words.
#[derive(Clone, Copy)]
pub(super) struct PackedRecord {
    word: RecordWord,
    pub address: u64,
}

impl PackedRecord {
    pub fn call(self) -> Call {
        Call::from_number(self.word.number())
    }

    pub fn port(self) -> Port {
        self.word.port()
    }

    pub fn value(self) -> u32 {
        self.word.value()
    }

    pub fn with_value(self, value: u32) -> PackedRecord {
        PackedRecord { word: self.word.with_value(value), ..self }
    }

    pub fn with_address(self, address: u64) -> PackedRecord {
        PackedRecord { address, ..self }
    }

    pub fn with_status(self, status: u8) -> PackedRecord {
        let word = RecordWord(self.word.0 & !0xff00 | u64::from(status) << 8);
        PackedRecord { word, ..self }
    }

    /// Returns true if both have the same call, port and address.
    fn is_equal_call(self, other: PackedRecord) -> bool {
        (self.word.0 ^ other.word.0) & 0xffff_00ff == 0 && self.address == other.address
    }
}

/// The records in one page of guest memory.
///
/// Other vCPUs may write them at any time. A call runs what it loads first, and may or may not
/// overwrite what they write.
pub(super) struct Records<'a> {
    /// Two words for each record.
    pub words: VolatileArrayRef<'a, u64>,
    pub count: usize,
}

impl Records<'_> {
    pub fn load(&self, index: usize) -> PackedRecord {
        let word = RecordWord(self.words.load(2 * index));
        PackedRecord { word, address: self.words.load(2 * index + 1) }
    }

    /// Stores all but the address.
    pub fn store(&self, index: usize, record: PackedRecord) {
        self.words.store(2 * index, record.word.0);
    }

    /// Stores the address, which only a string changes.
    pub fn store_address(&self, index: usize, record: PackedRecord) {
        self.words.store(2 * index + 1, record.address);
    }

    /// Runs the records from `index` on, at most `max`, that have the same call as `first`.
    ///
    /// Each has an element of `N` bytes, which `buffer` holds afterwards. Returns the number of
    /// records. If it is below 2, nothing has been run.
    pub fn run_equal<const N: usize>(
        &self,
        index: usize,
        max: usize,
        first: PackedRecord,
        io: IoCall,
        target: PortTarget<'_>,
        buffer: &mut [u8],
    ) -> usize {
        // The buffer holds a page, and a page of records has fewer elements than that.
        let (elements, _) = buffer.as_chunks_mut::<N>();
        let mut count = 0;
        for (index, element) in (index..index + max).zip(&mut *elements) {
            let record = self.load(index);
            if !record.is_equal_call(first) {
                break;
            }
            *element = *record.value().to_le_bytes().first_chunk().expect("at most 4 bytes");
            count += 1;
        }
        if count < 2 {
            return count;
        }
        let elements = &mut elements[..count];
        match io.direction {
            Direction::Out => target.write_string(io.width, elements.as_flattened()),
            Direction::In => target.read_string(io.width, elements.as_flattened_mut()),
        }
        for (index, element) in (index..).zip(elements) {
            let record = match io.direction {
                // Keep the unused upper bytes of the value.
                Direction::Out => self.load(index),
                Direction::In => {
                    let mut value = [0; 4];
                    value[..N].copy_from_slice(element);
                    first.with_value(u32::from_le_bytes(value))
                }
            };
            self.store(index, record.with_status(status::OK));
        }
        count
    }
}
