//! The origins, outcomes and counters of hypercalls.

use super::call_sites::{CallSiteId, CallSiteKey};
use super::chains::CallerId;
use super::processes::ProcessUse;

/// The code that makes a hypercall, and the process.
#[derive(Clone, Copy, Debug)]
pub struct CallOrigin {
    /// The call site.
    pub site: CallSiteId,
    /// Its identity.
    pub key: CallSiteKey,
    /// The call chain, if chains are counted.
    pub caller: CallerId,
    /// The process, if processes are counted.
    pub process: Option<ProcessUse>,
}

/// The outcome of a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded, or stopped at a page that the guest must touch first.
    Ok,
    /// The guest must execute the instruction itself.
    Declined,
    /// The caller's ring is not allowed to make hypercalls.
    Denied,
    /// The call was invalid, or the host failed.
    Error,
}

/// The columns of a call's row of counters.
#[derive(Clone, Copy)]
pub(super) enum CallColumn {
    Count,
    Bytes,
    Declined,
    Denied,
    Errors,
    /// Successful calls that moved one element. They are the most frequent, so they take one counter
    /// and are not in the other columns.
    MovedOne,
}
