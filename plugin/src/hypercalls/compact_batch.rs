//! The compact batch: records of 8 bytes in the caller's memory, each of which moves one element.
//!
//! A record has no status. The call stops before the first one that fails, so its address and count show
//! what has been done. Equal records in a row are run as one string.

use pvio_guest::abi::{CompactRecord, status};
use vm_memory::{VolatileArrayRef, VolatileMemory};

use super::memory::check_aligned;
use super::port_io::{IoCall, PortCalls, Transfer};
use super::records::RecordWord;
use super::refusal::{Refusal, must_be_zero};
use crate::bus::PortTarget;
use crate::guest_memory::{LinearMemory, Unusable, left_in_page};
use crate::qemu::MappedRam;
use crate::stats::{Call, Outcome};
use crate::x86::{Access, Direction, PAGE, Width};

const SIZE: usize = size_of::<CompactRecord>();

/// The operation of a record.
fn operation(record: RecordWord) -> Result<IoCall, Refusal> {
    let io = IoCall::scalar(record.number()).ok_or(Refusal(status::UNKNOWN))?;
    must_be_zero(record.head() & 0xff00)?;
    Ok(io)
}

/// The records of one page of guest memory. Other vCPUs may write them at any time.
trait Records {
    fn len(&self) -> usize;
    fn load(&self, index: usize) -> RecordWord;
    fn store(&mut self, index: usize, record: RecordWord);
}

impl Records for VolatileArrayRef<'_, u64> {
    fn len(&self) -> usize {
        VolatileArrayRef::len(self)
    }

    fn load(&self, index: usize) -> RecordWord {
        RecordWord(VolatileArrayRef::load(self, index))
    }

    fn store(&mut self, index: usize, record: RecordWord) {
        VolatileArrayRef::store(self, index, record.0);
    }
}

/// Records in a page that stays mapped.
struct HeldRecords<'a> {
    page: &'a mut MappedRam,
    /// The offset of the first record in the page.
    first: usize,
    count: usize,
    are_written: bool,
}

impl Records for HeldRecords<'_> {
    fn len(&self) -> usize {
        self.count
    }

    #[inline]
    fn load(&self, index: usize) -> RecordWord {
        RecordWord(self.page.load_u64(self.first + index * SIZE))
    }

    fn store(&mut self, index: usize, record: RecordWord) {
        self.page.store_u64(self.first + index * SIZE, record.0);
        self.are_written = true;
    }
}

impl PortCalls<'_> {
    /// Runs records until none is left, the budget is spent, or one fails.
    pub(super) fn compact_batch(
        &mut self,
        memory: &LinearMemory<'_>,
        transfer: &mut Transfer,
    ) -> Result<(), Refusal> {
        check_aligned(memory, transfer.address, transfer.left, SIZE)?;
        while transfer.left > 0 && self.budget > 0 {
            let max = self.budget.min(left_in_page(transfer.address) / SIZE);
            let count = usize::try_from(transfer.left).map_or(max, |left| left.min(max));
            let (done, result) = self.compact_page(memory, transfer.address, count)?;
            transfer.address += (done * SIZE) as u64;
            transfer.left -= done as u64;
            self.budget -= done;
            result?;
        }
        Ok(())
    }

    /// Runs `count` records, all in one page. The result is that of [`PortCalls::compact_records`].
    fn compact_page(
        &mut self,
        memory: &LinearMemory<'_>,
        address: u64,
        count: usize,
    ) -> Result<(usize, Result<(), Refusal>), Unusable> {
        if let Some(pages) = self.pages {
            let physical = memory.physical(address, Access::Write)?;
            let mut held = pages.records.borrow_mut();
            if let Some(page) = held.get(physical) {
                let first = (physical % PAGE) as usize;
                let mut records = HeldRecords { page, first, count, are_written: false };
                let ran = self.compact_records(&mut records);
                if records.are_written {
                    held.release();
                }
                return Ok(ran);
            }
        }
        memory.with_mut(address, count * SIZE, |page| {
            self.compact_records(&mut page.get_array_ref(0, count).expect("it has this length"))
        })
    }

    /// Runs the records of one page. Returns the number of those that have run, and why the next has not.
    fn compact_records(&mut self, records: &mut impl Records) -> (usize, Result<(), Refusal>) {
        let mut done = 0;
        while done < records.len() {
            match self.equal_compact_records(records, done) {
                Ok(count) => done += count,
                Err(refusal) => return (done, Err(refusal)),
            }
        }
        (done, Ok(()))
    }

    /// Runs the record at `index`, and with it those after it that have the same call and port.
    ///
    /// Returns their number.
    fn equal_compact_records(
        &mut self,
        records: &mut impl Records,
        index: usize,
    ) -> Result<usize, Refusal> {
        let first = records.load(index);
        let (io, target) =
            match operation(first).and_then(|io| Ok((io, self.target(first.port())?))) {
                Ok(operation) => operation,
                Err(refusal) => {
                    let call = IoCall::scalar(first.number()).map_or(Call::Unknown, |io| io.call);
                    self.recorder.ended(call, refusal.outcome(), 1);
                    return Err(refusal);
                }
            };
        let buffer = &mut self.buffer[..];
        let count = match io.width {
            Width::Byte => run_equal::<1>(records, index, first, io, target, buffer),
            Width::Word => run_equal::<2>(records, index, first, io, target, buffer),
            Width::Dword => run_equal::<4>(records, index, first, io, target, buffer),
        };
        let size = usize::from(io.width.bytes());
        if count == 1 {
            let mut value = [0; 4];
            value[..size].copy_from_slice(&self.buffer[..size]);
            self.recorder.moved_one(io, first.port(), u32::from_le_bytes(value));
        } else {
            self.recorder.ended(io.call, Outcome::Ok, count as u64);
            self.recorder.moved_string(io, first.port(), &self.buffer[..count * size]);
        }
        Ok(count)
    }
}

/// Runs `first`, which is the record at `index`, and those after it that have the same call and port.
///
/// Each has an element of `N` bytes, which `buffer` holds afterwards. Returns their number.
///
/// Other vCPUs may write the records at any time. What is loaded first is run.
fn run_equal<const N: usize>(
    records: &mut impl Records,
    index: usize,
    first: RecordWord,
    io: IoCall,
    target: PortTarget<'_>,
    buffer: &mut [u8],
) -> usize {
    // The buffer holds a page, and a page of records has fewer elements than that.
    let (elements, _) = buffer.as_chunks_mut::<N>();
    let mut record = first;
    let mut count = 0;
    for element in &mut *elements {
        *element = *record.value().to_le_bytes().first_chunk().expect("at most 4 bytes");
        count += 1;
        if index + count == records.len() {
            break;
        }
        record = records.load(index + count);
        if record.head() != first.head() {
            break;
        }
    }
    let elements = &mut elements[..count];
    match io.direction {
        Direction::Out => target.write_string(io.width, elements.as_flattened()),
        Direction::In => {
            target.read_string(io.width, elements.as_flattened_mut());
            for (index, element) in (index..).zip(elements) {
                let mut value = [0; 4];
                value[..N].copy_from_slice(element);
                records.store(index, first.with_value(u32::from_le_bytes(value)));
            }
        }
    }
    count
}
