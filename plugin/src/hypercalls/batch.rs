//! The batch call: records of 16 bytes in the caller's memory, run one after another.
//!
//! Equal scalar records in a row are run as one string, whose elements are in the records.

use pvio_guest::abi::{RECORD_PENDING, Record, status};
use vm_memory::VolatileMemory;

use super::memory::check_aligned;
use super::port_io::{IoCall, PortCalls, Transfer};
use super::records::{PackedRecord, Records};
use super::refusal::{Refusal, must_be_zero};
use crate::guest_memory::{LinearMemory, left_in_page};
use crate::stats::{Call, Outcome};
use crate::x86::{Direction, Width};

const SIZE: usize = size_of::<Record>();

/// The state of a batch or record: complete, or stopped in a string whose budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Complete,
    Stopped,
}

impl PortCalls<'_> {
    /// Runs records until none is left, the budget is spent, or one fails.
    pub(super) fn batch(
        &mut self,
        memory: &LinearMemory<'_>,
        transfer: &mut Transfer,
    ) -> Result<(), Refusal> {
        check_aligned(memory, transfer.address, transfer.left, SIZE)?;
        while transfer.left > 0 && self.budget > 0 {
            let in_page = left_in_page(transfer.address) / SIZE;
            let count = usize::try_from(transfer.left).map_or(in_page, |left| left.min(in_page));
            let progress = memory.with_mut(transfer.address, count * SIZE, |page| {
                let words = page.get_array_ref(0, 2 * count).expect("the slice has this length");
                self.records(&Records { words, count }, memory, transfer)
            })??;
            if progress == Progress::Stopped {
                break;
            }
        }
        Ok(())
    }

    /// Runs the records of one page.
    fn records(
        &mut self,
        records: &Records<'_>,
        memory: &LinearMemory<'_>,
        transfer: &mut Transfer,
    ) -> Result<Progress, Refusal> {
        let mut index = 0;
        while index < records.count && self.budget > 0 {
            let mut done = self.equal_records(records, index);
            self.budget -= done.max(1);
            if done < 2 {
                if self.single_record(records, index, memory)? == Progress::Stopped {
                    return Ok(Progress::Stopped);
                }
                done = 1;
            }
            index += done;
            transfer.address += (done * SIZE) as u64;
            transfer.left -= done as u64;
        }
        Ok(Progress::Complete)
    }

    /// Runs the scalar records from `index` on that have the same call and port, as a string.
    ///
    /// Returns their number. If it is below 2, nothing has been run.
    fn equal_records(&mut self, records: &Records<'_>, index: usize) -> usize {
        let first = records.load(index);
        let Some(io) = IoCall::of(first.call()) else { return 0 };
        let Ok(target) = self.target(first.port()) else { return 0 };
        if io.is_string || first.address != 0 {
            return 0;
        }
        let max = self.budget.min(records.count - index);
        let buffer = &mut self.buffer[..];
        let count = match io.width {
            Width::Byte => records.run_equal::<1>(index, max, first, io, target, buffer),
            Width::Word => records.run_equal::<2>(index, max, first, io, target, buffer),
            Width::Dword => records.run_equal::<4>(index, max, first, io, target, buffer),
        };
        if count > 1 {
            let len = count * usize::from(io.width.bytes());
            self.recorder.ended(io.call, Outcome::Ok, count as u64);
            self.recorder.moved_string(io, first.port(), &self.buffer[..len]);
        }
        count
    }

    /// Runs one record and stores its status in it.
    fn single_record(
        &mut self,
        records: &Records<'_>,
        index: usize,
        memory: &LinearMemory<'_>,
    ) -> Result<Progress, Refusal> {
        let mut record = records.load(index);
        let result = self.record(&mut record, memory);
        let status = match result {
            Ok(Progress::Complete) => status::OK,
            Ok(Progress::Stopped) => RECORD_PENDING,
            Err(Refusal(code)) => code,
        };
        records.store(index, record.with_status(status));
        if IoCall::of(record.call()).is_some_and(|io| io.is_string) {
            records.store_address(index, record);
        }
        result
    }

    fn record(
        &mut self,
        record: &mut PackedRecord,
        memory: &LinearMemory<'_>,
    ) -> Result<Progress, Refusal> {
        let call = record.call();
        let Some(io) = IoCall::of(call) else {
            self.recorder.ended(Call::Unknown, Outcome::Error, 1);
            return Err(Refusal(status::UNKNOWN));
        };
        let result = match io.is_string {
            true => self.string_record(io, record, memory),
            false => self.scalar_record(io, record).map(|()| Progress::Complete),
        };
        match (&result, io.is_string) {
            // It has counted itself.
            (Ok(_), false) => {}
            (Ok(_), true) => self.recorder.ended(call, Outcome::Ok, 1),
            (Err(refusal), _) => self.recorder.ended(call, refusal.outcome(), 1),
        }
        result
    }

    fn scalar_record(&self, io: IoCall, record: &mut PackedRecord) -> Result<(), Refusal> {
        must_be_zero(record.address)?;
        let target = self.target(record.port())?;
        match io.direction {
            Direction::In => *record = record.with_value(target.read(io.width)),
            Direction::Out => target.write(io.width, record.value()),
        }
        self.recorder.moved_one(io, record.port(), record.value());
        Ok(())
    }

    fn string_record(
        &mut self,
        io: IoCall,
        record: &mut PackedRecord,
        memory: &LinearMemory<'_>,
    ) -> Result<Progress, Refusal> {
        let before = Transfer { address: record.address, left: record.value().into() };
        let mut transfer = before;
        let result = self.string(io, record.port(), memory, &mut transfer);
        *record = record.with_address(transfer.address).with_value(transfer.left as u32);
        match result {
            // After some progress, the next call reports the error, as for a single string call.
            Err(refusal) if refusal.outcome() == Outcome::Error && transfer != before => {
                Ok(Progress::Stopped)
            }
            Err(refusal) => Err(refusal),
            Ok(()) if transfer.left == 0 => Ok(Progress::Complete),
            Ok(()) => Ok(Progress::Stopped),
        }
    }
}
