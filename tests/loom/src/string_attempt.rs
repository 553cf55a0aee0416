//! A stand-in for the state of an interrupted string, which the list of them does not look into.

/// The number of a string.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StringAttempt(pub(crate) u32);
