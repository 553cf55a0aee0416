//! A batch: records of 16 bytes in the caller's memory, carried out one after another.

use pvio_guest::abi::{RECORD_PENDING, Record, status};
use vm_memory::{VolatileArrayRef, VolatileMemory};

use super::memory::check;
use super::port_io::{IoCall, PortCalls, Transfer};
use super::{Refusal, must_be_zero};
use crate::bus::PortTarget;
use crate::guest_memory::{LinearMemory, left_in_page};
use crate::stats::{Call, Outcome};
use crate::x86::{Direction, Port, Width};

const SIZE: usize = size_of::<Record>();

impl PortCalls<'_> {
    /// Carries out records until none is left, the budget is spent, or one is not OK.
    pub(super) fn batch(
        &mut self,
        memory: &LinearMemory<'_>,
        transfer: &mut Transfer,
    ) -> Result<(), Refusal> {
        check(memory, transfer.address, transfer.left, SIZE)?;
        if !transfer.address.is_multiple_of(SIZE as u64) {
            return Err(Refusal(status::ADDRESS));
        }
        while transfer.left > 0 && self.budget > 0 {
            let in_page = left_in_page(transfer.address) / SIZE;
            let count = usize::try_from(transfer.left).map_or(in_page, |left| left.min(in_page));
            let all_done = memory.with_mut(transfer.address, count * SIZE, |page| {
                let words = page.get_array_ref(0, 2 * count).expect("as many as were asked for");
                self.records(&Records { words, count }, memory, transfer)
            })??;
            if !all_done {
                break;
            }
        }
        Ok(())
    }

    /// Those of one page; whether all are done, or one has stopped within a string.
    fn records(
        &mut self,
        records: &Records<'_>,
        memory: &LinearMemory<'_>,
        transfer: &mut Transfer,
    ) -> Result<bool, Refusal> {
        let mut place = 0;
        while place < records.count && self.budget > 0 {
            let mut done = self.alike(records, place);
            self.budget -= done.max(1);
            if done < 2 {
                if !self.single(records, place, memory)? {
                    return Ok(false);
                }
                done = 1;
            }
            place += done;
            transfer.address += (done * SIZE) as u64;
            transfer.left -= done as u64;
        }
        Ok(true)
    }

    /// Carries out the records from `place` on as far as they are all the same call on the same port, if
    /// that are several: they are a string whose elements are in the records. Gives how many they are;
    /// where it is one alone, or none that is right, nothing is done.
    fn alike(&mut self, records: &Records<'_>, place: usize) -> usize {
        let first = records.load(place);
        let Some(io) = IoCall::of(first.call()) else { return 0 };
        let Ok(target) = self.target(first.port()) else { return 0 };
        if io.is_string || first.address != 0 {
            return 0;
        }
        let most = self.budget.min(records.count - place);
        let buffer = &mut self.buffer[..];
        let count = match io.width {
            Width::Byte => records.carry_out_alike::<1>(place, most, first, io, target, buffer),
            Width::Word => records.carry_out_alike::<2>(place, most, first, io, target, buffer),
            Width::Dword => records.carry_out_alike::<4>(place, most, first, io, target, buffer),
        };
        if count > 1 {
            let len = count * usize::from(io.width.bytes());
            self.counters.hypercalls(io.call, count as u64);
            self.moved_string(io, first.port(), len);
        }
        count
    }

    /// Carries out one record, and says in it how that went; whether it is done.
    fn single(
        &mut self,
        records: &Records<'_>,
        place: usize,
        memory: &LinearMemory<'_>,
    ) -> Result<bool, Refusal> {
        let mut record = records.load(place);
        let result = self.record(&mut record, memory);
        let status = match result {
            Ok(true) => status::OK,
            // The budget was spent within a string, which is to go on.
            Ok(false) => RECORD_PENDING,
            Err(Refusal(code)) => code,
        };
        records.store(place, record.with_status(status));
        if IoCall::of(record.call()).is_some_and(|io| io.is_string) {
            records.store_address(place, record);
        }
        result
    }

    fn record(&mut self, record: &mut Words, memory: &LinearMemory<'_>) -> Result<bool, Refusal> {
        let call = record.call();
        let Some(io) = IoCall::of(call) else {
            self.counters.hypercall(Call::Unknown, Outcome::Error);
            return Err(Refusal(status::UNKNOWN));
        };
        let result = match io.is_string {
            true => self.string_record(io, record, memory),
            false => self.scalar_record(io, record).map(|()| true),
        };
        match (&result, io.is_string) {
            (Ok(_), false) => self.counters.hypercall_moved_one(call),
            (Ok(_), true) => self.counters.hypercall(call, Outcome::Ok),
            (Err(refusal), _) => self.counters.hypercall(call, refusal.outcome()),
        }
        result
    }

    fn scalar_record(&self, io: IoCall, record: &mut Words) -> Result<(), Refusal> {
        must_be_zero(record.address)?;
        let target = self.target(record.port())?;
        match io.direction {
            Direction::In => *record = record.with_value(target.read(io.width)),
            Direction::Out => target.write(io.width, record.value()),
        }
        self.moved_one(io, record.port(), record.value());
        Ok(())
    }

    fn string_record(
        &mut self,
        io: IoCall,
        record: &mut Words,
        memory: &LinearMemory<'_>,
    ) -> Result<bool, Refusal> {
        let before = Transfer { address: record.address, left: record.value().into() };
        let mut transfer = before;
        let result = self.string(io, record.port(), memory, &mut transfer);
        *record = Words { address: transfer.address, ..record.with_value(transfer.left as u32) };
        match result {
            // As without a batch: what is wrong is said when it is at the beginning.
            Err(refusal) if refusal.outcome() == Outcome::Error && transfer != before => Ok(false),
            result => result.map(|()| transfer.left == 0),
        }
    }
}

/// A [`Record`] as two little-endian words. As the structure that it is, it would be stored in pieces and
/// loaded in others on its way, which processors are slow at.
#[derive(Clone, Copy)]
struct Words {
    /// Bits 0-7 the call, 8-15 the status, 16-31 the port, 32-63 the value.
    head: u64,
    address: u64,
}

impl Words {
    fn call(self) -> Call {
        Call::from_number(self.head as u8)
    }

    fn port(self) -> Port {
        Port((self.head >> 16) as u16)
    }

    fn value(self) -> u32 {
        (self.head >> 32) as u32
    }

    fn with_value(self, value: u32) -> Words {
        Words { head: self.head & 0xffff_ffff | u64::from(value) << 32, ..self }
    }

    fn with_status(self, status: u8) -> Words {
        Words { head: self.head & !0xff00 | u64::from(status) << 8, ..self }
    }

    /// Whether both are the same scalar call on the same port.
    fn is_like(self, other: Words) -> bool {
        (self.head ^ other.head) & 0xffff_00ff == 0 && self.address == other.address
    }
}

/// The records in a page, as the guest has them in this moment. Others of its processors may write them
/// meanwhile, and then have what they have written, or not: what is done is what was looked at first.
struct Records<'a> {
    words: VolatileArrayRef<'a, u64>,
    count: usize,
}

impl Records<'_> {
    fn load(&self, place: usize) -> Words {
        Words { head: self.words.load(2 * place), address: self.words.load(2 * place + 1) }
    }

    fn store(&self, place: usize, record: Words) {
        self.words.store(2 * place, record.head);
    }

    /// As only a string changes it.
    fn store_address(&self, place: usize, record: Words) {
        self.words.store(2 * place + 1, record.address);
    }

    /// Carries out those of the `most` from `place` on that are like the first, if they are several, with
    /// their elements of `N` bytes in `buffer`. Gives how many they are.
    fn carry_out_alike<const N: usize>(
        &self,
        place: usize,
        most: usize,
        first: Words,
        io: IoCall,
        target: PortTarget<'_>,
        buffer: &mut [u8],
    ) -> usize {
        // A page has fewer records than elements of any size.
        let (elements, _) = buffer.as_chunks_mut::<N>();
        let mut count = 0;
        for (place, element) in (place..place + most).zip(&mut *elements) {
            let record = self.load(place);
            if !record.is_like(first) {
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
        for (place, element) in (place..).zip(elements) {
            let record = match io.direction {
                // What was above the element stays.
                Direction::Out => self.load(place),
                Direction::In => {
                    let mut value = [0; 4];
                    value[..N].copy_from_slice(element);
                    first.with_value(u32::from_le_bytes(value))
                }
            };
            self.store(place, record.with_status(status::OK));
        }
        count
    }
}
