//! Many operations by one call.
//!
//! A [`Batch`] writes records into the caller's array, and [`run`](Batch::run) executes them in order: with
//! one hypercall if a host answers, otherwise one by one with the CPU's instructions. Nothing is allocated. A
//! [`CompactBatch`] has no strings and records of half the size.
//!
//! ```no_run
//! use pvio_guest::batch::{Batch, Error, Record};
//!
//! /// Sends a command with its data to a device, and reads the answer.
//! fn command(data: &[u16], answer: &mut [u8]) -> Result<u8, Error> {
//!     let mut records = [Record::default(); 4];
//!     let mut batch = Batch::new(&mut records);
//!     batch.outb(0x30, 0x307)?;
//!     batch.outs(0x300, data)?;
//!     let status = batch.inb(0x307)?;
//!     batch.ins(0x301, answer)?;
//!     // SAFETY: the device is ours, and this is its protocol.
//!     let results = unsafe { batch.run() }?;
//!     Ok(results.get(status))
//! }
//! ```
//!
//! Buffers are borrowed until the batch has run, and values are available only then:
//!
//! ```compile_fail,E0502
//! # use pvio_guest::batch::{Batch, Record};
//! let mut records = [Record::default(); 1];
//! let mut buffer = [0_u8; 16];
//! let mut batch = Batch::new(&mut records);
//! batch.ins(0x300, &mut buffer).unwrap();
//! println!("{}", buffer[0]); // The batch will write there.
//! // SAFETY: this is not compiled.
//! unsafe { batch.run() }.unwrap();
//! ```
//!
//! ```compile_fail,E0506
//! # use pvio_guest::batch::{Batch, Record};
//! let mut records = [Record::default(); 1];
//! let mut buffer = [0_u8; 16];
//! let mut batch = Batch::new(&mut records);
//! batch.outs(0x300, &buffer).unwrap();
//! buffer[0] = 1; // The batch will read there.
//! // SAFETY: this is not compiled.
//! unsafe { batch.run() }.unwrap();
//! ```
//!
//! ```compile_fail,E0597
//! # use pvio_guest::batch::{Batch, Record};
//! let mut records = [Record::default(); 1];
//! let mut batch = Batch::new(&mut records);
//! {
//!     let buffer = [0_u8; 16];
//!     batch.outs(0x300, &buffer).unwrap();
//! } // The buffer ends before the batch reads it.
//! // SAFETY: this is not compiled.
//! unsafe { batch.run() }.unwrap();
//! ```
//!
//! ```compile_fail,E0599
//! # use pvio_guest::batch::{Batch, Record};
//! let mut records = [Record::default(); 1];
//! let mut batch = Batch::new(&mut records);
//! let value = batch.inb(0x300).unwrap();
//! batch.get(value); // Only what `run` returns has results.
//! ```
//!
//! ```compile_fail,E0308
//! # use pvio_guest::batch::{Batch, Record};
//! let mut records = [Record::default(); 1];
//! let mut batch = Batch::new(&mut records);
//! let value = batch.inb(0x300).unwrap();
//! // SAFETY: this is not compiled.
//! let word: u16 = unsafe { batch.run() }.unwrap().get(value); // It was a byte.
//! ```
//!
//! ```compile_fail,E0382
//! # use pvio_guest::batch::{Batch, Record};
//! let mut records = [Record::default(); 2];
//! let mut batch = Batch::new(&mut records);
//! batch.outb(1, 0x300).unwrap();
//! // SAFETY: this is not compiled.
//! unsafe { batch.run() }.unwrap();
//! batch.outb(2, 0x300).unwrap(); // It has run.
//! ```

/// Defines the methods of a batch that add one element, by its `push_in` and `push_out`.
macro_rules! scalar_operations {
    () => {
        /// Reads a byte.
        pub fn inb(&mut self, port: u16) -> Result<Ticket<u8>, Error> {
            self.push_in(port)
        }

        /// Reads 16 bits.
        pub fn inw(&mut self, port: u16) -> Result<Ticket<u16>, Error> {
            self.push_in(port)
        }

        /// Reads 32 bits.
        pub fn inl(&mut self, port: u16) -> Result<Ticket<u32>, Error> {
            self.push_in(port)
        }

        /// Writes a byte.
        pub fn outb(&mut self, value: u8, port: u16) -> Result<(), Error> {
            self.push_out(value, port)
        }

        /// Writes 16 bits.
        pub fn outw(&mut self, value: u16, port: u16) -> Result<(), Error> {
            self.push_out(value, port)
        }

        /// Writes 32 bits.
        pub fn outl(&mut self, value: u32, port: u16) -> Result<(), Error> {
            self.push_out(value, port)
        }
    };
}

mod compact;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod results;
mod run;
#[cfg(test)]
mod tests;

use core::marker::PhantomData;

use crate::abi::RECORD_PENDING;
pub use crate::abi::{CompactRecord, Record};
use crate::machine::Real;
use crate::paravirt::Paravirt;
use crate::value::Value;
pub use compact::CompactBatch;
pub use results::{AnyRecord, Error, Results, Ticket};

/// Operations on ports, executed together and in order.
///
/// `'r` is the lifetime of the array of records, `'b` that of the buffers.
#[derive(Debug)]
#[must_use = "the operations are done by `run`"]
pub struct Batch<'r, 'b> {
    records: &'r mut [Record],
    len: usize,
    segment_base: usize,
    buffers: PhantomData<&'b mut [u8]>,
}

impl<'r, 'b> Batch<'r, 'b> {
    /// An empty batch with room for one operation per record. The old contents of the records do not
    /// matter.
    pub fn new(records: &'r mut [Record]) -> Batch<'r, 'b> {
        Batch::with_segment_base(records, 0)
    }

    /// The same, for code whose data segment has a base: see [`Hypercall`](crate::Hypercall).
    pub fn with_segment_base(records: &'r mut [Record], segment_base: usize) -> Batch<'r, 'b> {
        Batch { records, len: 0, segment_base, buffers: PhantomData }
    }

    /// The number of operations.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are no operations.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    scalar_operations!();

    /// Fills a slice: `insb`, `insw` or `insl`, by the slice's type.
    pub fn ins<T: Value>(&mut self, port: u16, buffer: &'b mut [T]) -> Result<(), Error> {
        let address = self.linear(buffer.as_mut_ptr().expose_provenance());
        self.push(T::INS, port, count(buffer)?, address).map(drop)
    }

    /// Writes a slice: `outsb`, `outsw` or `outsl`, by the slice's type.
    pub fn outs<T: Value>(&mut self, port: u16, buffer: &'b [T]) -> Result<(), Error> {
        let address = self.linear(buffer.as_ptr().expose_provenance());
        self.push(T::OUTS, port, count(buffer)?, address).map(drop)
    }

    /// Executes all operations in order. Returns the values read.
    ///
    /// The CPU's instructions execute what the host declines, in its place in the order, and everything
    /// if there is no host.
    ///
    /// # Errors
    ///
    /// [`Error::Operation`] names the operation that the host rejects. Those before it have been executed,
    /// it and those after it have not.
    ///
    /// # Safety
    ///
    /// Accesses to ports may do anything that their devices do.
    pub unsafe fn run(self) -> Result<Results<'r>, Error> {
        let records = &mut self.records[..self.len];
        let io = Paravirt { machine: &Real, segment_base: self.segment_base };
        // SAFETY: the batch borrows the buffers, those to be written exclusively; the caller answers
        // for the devices.
        unsafe { run::run(&io, records.as_mut_ptr(), records.len()) }?;
        Ok(Results { records })
    }

    fn push_in<T: Value>(&mut self, port: u16) -> Result<Ticket<T>, Error> {
        self.push(T::IN, port, 0, 0).map(|record| Ticket::to(record))
    }

    fn push_out<T: Value>(&mut self, value: T, port: u16) -> Result<(), Error> {
        self.push(T::OUT, port, value.to_bits(), 0).map(drop)
    }

    fn push(&mut self, call: u8, port: u16, value: u32, address: u64) -> Result<&Record, Error> {
        let record = self.records.get_mut(self.len).ok_or(Error::NoRoom)?;
        *record = Record { call, status: RECORD_PENDING, port, value, address };
        self.len += 1;
        Ok(record)
    }

    fn linear(&self, pointer: usize) -> u64 {
        pointer.wrapping_add(self.segment_base) as u64
    }
}

/// A slice's length as a record holds it.
fn count<T>(buffer: &[T]) -> Result<u32, Error> {
    u32::try_from(buffer.len()).map_err(|_| Error::TooLong)
}
