//! A batch: records of 16 bytes in the caller's memory, carried out one after another.

use std::sync::atomic::{AtomicU64, Ordering};

use pvio_guest::abi::{self, RECORD_PENDING, Record, status};
use vm_memory::{VolatileMemory, VolatileSlice};

use super::memory::{CallerMemory, left_in_page};
use super::port_io::{IoCall, Transfer, owner};
use super::{Refusal, VcpuCalls, is_error, must_be_zero, outcome_of};
use crate::stats::{Call, Outcome};
use crate::x86::{Direction, Port};

const SIZE: usize = size_of::<Record>();

impl VcpuCalls {
    /// Carries out records until none is left, the budget is spent, or one is not OK.
    pub(super) fn batch(
        &mut self,
        transfer: &mut Transfer,
        memory: &CallerMemory<'_>,
        pc: u64,
    ) -> Result<(), Refusal> {
        memory.check(transfer.address, transfer.left, SIZE)?;
        if !transfer.address.is_multiple_of(SIZE as u64) {
            return Err(Refusal(status::ADDRESS));
        }
        let mut budget = abi::ELEMENTS_MAX;
        while transfer.left > 0 && budget > 0 {
            let in_page = left_in_page(transfer.address) / SIZE;
            let count = usize::try_from(transfer.left).map_or(in_page, |left| left.min(in_page));
            memory.with_mut(transfer.address, count * SIZE, |records| {
                self.records(count, &records, transfer, memory, pc, &mut budget)
            })??;
        }
        Ok(())
    }

    /// Those of one page.
    fn records(
        &mut self,
        count: usize,
        records: &VolatileSlice<'_>,
        transfer: &mut Transfer,
        memory: &CallerMemory<'_>,
        pc: u64,
        budget: &mut usize,
    ) -> Result<(), Refusal> {
        for place in 0..count {
            if *budget == 0 {
                break;
            }
            *budget -= 1;
            let mut record = load(records, place);
            let result = self.record(&mut record, memory, pc, budget);
            record.status = match result {
                Ok(true) => status::OK,
                // The budget was spent within a string, which is to go on.
                Ok(false) => RECORD_PENDING,
                Err(Refusal(code)) => code,
            };
            store(records, place, &record);
            if !result? {
                break;
            }
            transfer.address += SIZE as u64;
            transfer.left -= 1;
        }
        Ok(())
    }

    /// One record; whether it is done.
    fn record(
        &mut self,
        record: &mut Record,
        memory: &CallerMemory<'_>,
        pc: u64,
        budget: &mut usize,
    ) -> Result<bool, Refusal> {
        let call = Call::from_number(record.call);
        let Some(io) = IoCall::of(call) else {
            self.tally.hypercall(Call::Unknown, Outcome::Error);
            return Err(Refusal(status::UNKNOWN));
        };
        let result = match io.is_string {
            true => self.string_record(io, record, memory, pc, budget),
            false => self.scalar_record(io, record, pc).map(|()| true),
        };
        let outcome = result.as_ref().map_or_else(|refusal| outcome_of(refusal.0), |_| Outcome::Ok);
        self.tally.hypercall(call, outcome);
        result
    }

    fn scalar_record(&self, io: IoCall, record: &mut Record, pc: u64) -> Result<(), Refusal> {
        must_be_zero((record.address != 0).into())?;
        let port = Port(record.port);
        let owner = owner(&self.hypercalls, port)?;
        match io.direction {
            Direction::In => record.value = owner.read(io.width),
            Direction::Out => owner.write(io.width, record.value),
        }
        self.moved_one(io, port, record.value, pc);
        Ok(())
    }

    fn string_record(
        &mut self,
        io: IoCall,
        record: &mut Record,
        memory: &CallerMemory<'_>,
        pc: u64,
        budget: &mut usize,
    ) -> Result<bool, Refusal> {
        let mut transfer = Transfer { address: record.address, left: record.value.into() };
        let result = self.string(io, Port(record.port), &mut transfer, memory, pc, budget);
        let is_begun = transfer.address != record.address;
        record.address = transfer.address;
        record.value = transfer.left as u32;
        match result {
            // As without a batch: what is wrong is said when it is at the beginning.
            Err(Refusal(code)) if is_error(code) && is_begun => Ok(false),
            result => result.map(|()| transfer.left == 0),
        }
    }
}

/// A record, as the guest has it in this moment. Others of its processors may write it meanwhile: it is
/// looked at once.
fn load(records: &VolatileSlice<'_>, place: usize) -> Record {
    let word = |offset| half(records, place, offset).load(Ordering::Relaxed);
    let first = word(0);
    Record {
        call: first as u8,
        status: (first >> 8) as u8,
        port: (first >> 16) as u16,
        value: (first >> 32) as u32,
        address: word(8),
    }
}

fn store(records: &VolatileSlice<'_>, place: usize, record: &Record) {
    let Record { call, status, port, value, address } = *record;
    let first =
        u64::from(call) | u64::from(status) << 8 | u64::from(port) << 16 | u64::from(value) << 32;
    half(records, place, 0).store(first, Ordering::Relaxed);
    // Only strings have one, and change it.
    if address != 0 {
        half(records, place, 8).store(address, Ordering::Relaxed);
    }
}

fn half<'a>(records: &'a VolatileSlice<'_>, place: usize, offset: usize) -> &'a AtomicU64 {
    records
        .get_atomic_ref::<AtomicU64>(place * SIZE + offset)
        .expect("records are aligned, and all in the page that is there")
}
