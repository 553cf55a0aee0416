//! The outcome of a batch: values by their tickets, or an error.

use core::fmt;
use core::marker::PhantomData;

use crate::abi::{CompactRecord, Record};
use crate::error::CallError;
use crate::value::Value;

/// Identifies a value that the batch reads when it runs.
#[derive(Debug)]
#[must_use = "only the ticket gives access to the value"]
pub struct Ticket<T> {
    /// The address of the record. Not a reference: the batch borrows the array.
    address: usize,
    value: PhantomData<T>,
}

impl<T> Ticket<T> {
    pub(super) fn to<R>(record: &R) -> Ticket<T> {
        Ticket { address: core::ptr::from_ref(record).addr(), value: PhantomData }
    }
}

// Not derived, since a derive would demand the same traits of T.

impl<T> Clone for Ticket<T> {
    fn clone(&self) -> Ticket<T> {
        *self
    }
}

impl<T> Copy for Ticket<T> {}

/// A record of either size.
pub trait AnyRecord: sealed::Sealed {}

impl AnyRecord for Record {}

impl AnyRecord for CompactRecord {}

mod sealed {
    use crate::abi::{CompactRecord, Record};

    pub trait Sealed {
        fn call(&self) -> u8;
        fn value(&self) -> u32;
    }

    impl Sealed for Record {
        fn call(&self) -> u8 {
            self.call
        }

        fn value(&self) -> u32 {
            self.value
        }
    }

    impl Sealed for CompactRecord {
        fn call(&self) -> u8 {
            self.call
        }

        fn value(&self) -> u32 {
            self.value
        }
    }
}

/// The values read by a batch.
#[derive(Debug)]
pub struct Results<'r, R = Record> {
    pub(super) records: &'r [R],
}

impl<R: AnyRecord> Results<'_, R> {
    /// The value of a ticket.
    ///
    /// # Panics
    ///
    /// If the ticket is from another batch.
    pub fn get<T: Value>(&self, ticket: Ticket<T>) -> T {
        let offset = ticket.address.wrapping_sub(self.records.as_ptr().addr());
        match self.records.get(offset / size_of::<R>()) {
            Some(record) if record.call() == T::IN => T::from_bits(record.value()),
            _ => panic!("the ticket for a {} is another batch's", T::NAME),
        }
    }
}

/// Why a batch rejects an operation, or did not run to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// All records are in use.
    NoRoom,
    /// A buffer has 2^32 elements or more.
    TooLong,
    /// The host rejects an operation, and has stopped before it.
    Operation {
        /// The index of the operation; the first is 0.
        index: usize,
        /// The host's answer.
        error: CallError,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoRoom => formatter.write_str("the batch has no room for another operation"),
            Error::TooLong => formatter.write_str("the buffer is too long for a batch"),
            Error::Operation { index, error } => {
                write!(formatter, "operation {index} of the batch: {error}")
            }
        }
    }
}

impl core::error::Error for Error {}
