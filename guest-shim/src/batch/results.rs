//! What comes of a batch: values by the tickets that were given for them, or an error.

use core::fmt;
use core::marker::PhantomData;

use crate::abi::Record;
use crate::error::CallError;
use crate::value::Value;

/// Stands for a value that is read when the batch runs.
#[derive(Debug)]
#[must_use = "what is read can be had by this alone"]
pub struct Ticket<T> {
    /// Where the record is. An address alone: the array belongs to the batch.
    address: usize,
    value: PhantomData<T>,
}

impl<T> Ticket<T> {
    pub(super) fn to(record: &Record) -> Ticket<T> {
        Ticket { address: core::ptr::from_ref(record).addr(), value: PhantomData }
    }
}

// By hand, since a derive would ask the same of T.

impl<T> Clone for Ticket<T> {
    fn clone(&self) -> Ticket<T> {
        *self
    }
}

impl<T> Copy for Ticket<T> {}

/// What was read by a batch that has run.
#[derive(Debug)]
pub struct Results<'r> {
    pub(super) records: &'r [Record],
}

impl Results<'_> {
    /// The value that a ticket stands for.
    ///
    /// # Panics
    ///
    /// If the ticket was given out by another batch.
    pub fn get<T: Value>(&self, ticket: Ticket<T>) -> T {
        let offset = ticket.address.wrapping_sub(self.records.as_ptr().addr());
        match self.records.get(offset / size_of::<Record>()) {
            Some(record) if record.call == T::IN => T::from_bits(record.value),
            _ => panic!("the ticket for a {} is another batch's", T::NAME),
        }
    }
}

/// Why a batch took an operation for one too many, or did not run to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// All records are in use.
    NoRoom,
    /// A buffer has 2^32 elements or more.
    TooLong,
    /// The host takes an operation for wrong, and has stopped before it.
    Operation {
        /// Which: the first that was pushed is 0.
        index: usize,
        /// What the host says.
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
