//! The reasons why a call fails, and the status words that answer it.

use pvio_guest::abi::{Status, status};

use super::port_io::IoCall;
use crate::access_listeners::AccessListeners;
use crate::stats::{Call, Outcome, VcpuCounters};

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

/// Makes the status word for a call's result. Counts the call unless it has counted itself.
#[inline]
pub(super) fn answered(
    (counters, listeners): (&VcpuCounters, Option<&AccessListeners>),
    call: Call,
    result: Result<u32, Refusal>,
) -> Status {
    match result {
        Ok(data) => {
            let is_scalar = IoCall::of(call).is_some_and(|io| !io.is_string);
            if !is_scalar && call != Call::Exit {
                ended((counters, listeners), call, Outcome::Ok);
            }
            Status::new(status::OK, data)
        }
        Err(refusal) => {
            ended((counters, listeners), call, refusal.outcome());
            Status::new(refusal.0, 0)
        }
    }
}

/// Counts a call that has ended, and records it in the trace.
pub(super) fn ended(
    (counters, listeners): (&VcpuCounters, Option<&AccessListeners>),
    call: Call,
    outcome: Outcome,
) {
    counters.hypercall(call, outcome);
    if let Some(trace) = listeners.and_then(AccessListeners::trace) {
        trace.calls_ended(call, outcome, 1, 0);
    }
}

/// Rejects a field that the ABI reserves for later, unless it is zero.
pub(super) fn must_be_zero<T: Default + PartialEq>(field: T) -> Result<(), Refusal> {
    match field == T::default() {
        true => Ok(()),
        false => Err(Refusal(status::ARGUMENT)),
    }
}
