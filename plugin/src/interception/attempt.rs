//! What is known of an attempt at port I/O while it can still end in more than one way.

use super::interrupted::InterruptedString;
use super::operation::Operation;
use crate::qemu::Token;
use crate::x86::Port;

/// The last report.
#[derive(Clone, Copy, Debug)]
pub(super) enum Current {
    /// Nothing that could still change.
    Nothing,
    /// Counted as executed, with an access to the port or without (a `rep` of count 0), until an
    /// exception from its address says otherwise, or a #VMEXIT.
    Presumed(Operation, Option<Port>),
    /// What was presumed, when an exception has been raised that is not delivered yet: counted as
    /// unverified until its address is known. So it stays when the machine ends, or is reset.
    Suspected(Operation, Option<Port>),
    /// Counted as unverified, in a guest of the guest's: a #VMEXIT may still tell.
    Unverified(Operation, Option<Port>),
    /// Not all elements have been moved.
    InString(InterruptedString, StringReport),
}

/// What is known of one report of a string instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct StringReport {
    /// What QEMU carries through the callbacks for the instruction.
    pub token: Token,
    /// Loads to come that are not elements.
    pub loads_to_ignore: u8,
    /// `ins` writes each element twice, first a dummy that shows whether the page may be written;
    /// whether that has been seen.
    pub probed: bool,
    /// EFLAGS.TF: a debug trap follows each element.
    pub traps: bool,
    /// An element has been moved since the report.
    pub moved: bool,
    /// What QEMU does when the last element of a `rep` is moved.
    pub look: ZeroCountRestart,
}

/// QEMU leaves the loop of a `rep` after each element when it counts or traps instructions, or the
/// `sti` before is still in effect: also after the last. Then it starts the instruction once more,
/// finds the count 0, and that is the end; not another execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZeroCountRestart {
    /// The elements were moved in one go.
    Never,
    /// It was left with one element to move: by itself, or as the first after `sti`.
    Perhaps,
    /// It is left after each.
    Always,
}

/// A `rep` whose last element has been moved; no other report has come since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    pub operation: Operation,
    pub port: Port,
    pub look: ZeroCountRestart,
}
