//! The reasons why a call fails.

use pvio_guest::abi::status;

use crate::stats::Outcome;

/// Why a call failed or stopped early: one of the ABI's [`status`] codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub u8);

impl Refusal {
    /// Returns the outcome as which the statistics count the call.
    pub fn outcome(self) -> Outcome {
        match self.0 {
            // The guest touches the page and continues the call.
            status::PAGE => Outcome::Ok,
            status::DECLINED => Outcome::Declined,
            status::DENIED => Outcome::Denied,
            _ => Outcome::Error,
        }
    }
}

/// Rejects a field that the ABI reserves for later, unless it is zero.
pub(super) fn must_be_zero<T: Default + PartialEq>(field: T) -> Result<(), Refusal> {
    match field == T::default() {
        true => Ok(()),
        false => Err(Refusal(status::ARGUMENT)),
    }
}
