//! An attempt at a string instruction, which QEMU may report several times.

use super::operation::Operation;
use crate::qemu::Token;
use crate::stats::CallerId;
use crate::x86::{Direction, Port, PortSource, Rflags};

/// QEMU's loads for a lookup of the port in the TSS: the offset of the I/O permission bitmap, and a word of it
/// (`helper_check_io`). It reports them as accesses of the string instruction.
const LOADS_OF_PERMISSION_CHECK: u8 = 2;

/// A string instruction that has elements left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StringAttempt {
    pub operation: Operation,
    pub port: Port,
    /// The number of elements still to be moved. With 0 left, QEMU has yet to find the count 0.
    pub remaining: u64,
    /// An element has been moved.
    pub begun: bool,
    /// A fault has been delivered from it, and counted.
    pub faulted: bool,
}

impl StringAttempt {
    /// An attempt of which nothing has been moved.
    pub fn new(operation: Operation, port: Port, count: u64) -> StringAttempt {
        StringAttempt { operation, port, remaining: count, begun: false, faulted: false }
    }

    /// Returns true if a report of this instruction, port and count may continue the attempt.
    pub fn continues_as(&self, operation: Operation, port: Port, count: u64) -> bool {
        self.operation == operation && self.port == port && self.remaining == count
    }

    /// Returns true if only a report with EFLAGS.RF set can continue the attempt.
    ///
    /// An attempt that was abandoned after a fault looks like a new start with the same count, but a return from a fault
    /// handler sets RF. Where faults are not reported, an attempt that has not moved an element must have faulted:
    /// nothing else comes before the first element. A return from an interrupt handler may have no RF: a 16-bit IRET
    /// drops it.
    pub fn must_show_rf(&self) -> bool {
        self.faulted || !self.begun
    }

    /// Counts moved elements.
    pub fn move_elements(&mut self, count: u64) {
        self.begun = true;
        self.remaining -= count;
    }
}

/// The state of one report of a string instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct StringReport {
    token: Token,
    /// Loads to come that are not elements.
    loads_to_ignore: u8,
    /// `ins` writes each element twice. The first write is a dummy that shows whether the page may be written; this is
    /// set after it.
    probed: bool,
    /// EFLAGS.TF: a debug trap follows each element.
    traps: bool,
    /// An element has been moved since the report.
    moved: bool,
    zero_count_restart: ZeroCountRestart,
    /// The call chain under which its elements are counted.
    caller: CallerId,
}

impl StringReport {
    /// `checks_permission` says that QEMU looks the port up in the TSS.
    pub fn new(
        token: Token,
        checks_permission: bool,
        traps: bool,
        zero_count_restart: ZeroCountRestart,
        caller: CallerId,
    ) -> StringReport {
        StringReport {
            token,
            loads_to_ignore: if checks_permission { LOADS_OF_PERMISSION_CHECK } else { 0 },
            probed: false,
            traps,
            moved: false,
            zero_count_restart,
            caller,
        }
    }

    /// Returns the call chain under which its elements are counted.
    pub fn caller(&self) -> CallerId {
        self.caller
    }

    /// Returns true if an access to memory has moved an element.
    pub fn moves_element(&mut self, token: Token, direction: Direction) -> bool {
        if self.token != token {
            return false;
        }
        if self.loads_to_ignore > 0 {
            self.loads_to_ignore -= 1;
            return false;
        }
        if direction == Direction::In && !self.probed {
            self.probed = true;
            return false;
        }
        self.probed = false;
        self.moved = true;
        true
    }

    /// Returns true if an exception is the debug trap after an element.
    pub fn is_after_trap(&self) -> bool {
        self.traps && self.moved
    }
}

/// A prediction: whether QEMU restarts a `rep` that has moved its last element.
///
/// QEMU leaves the loop of a `rep` after each element, also the last, if it counts or traps instructions, or if the `sti`
/// before is still in effect. Then it starts the instruction once more, and finds the count 0. That restart is not
/// another execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZeroCountRestart {
    /// QEMU moves all elements in one loop.
    Never,
    /// One element was left, which QEMU moves by itself; it may be the first after `sti`.
    Perhaps,
    /// QEMU leaves the loop after each element.
    Always,
}

impl ZeroCountRestart {
    /// Predicts the restart. `steps` says that QEMU leaves the loop after each element.
    pub fn of(operation: Operation, count: u64, steps: bool) -> ZeroCountRestart {
        match operation.form().source() == PortSource::RepString {
            true if steps => ZeroCountRestart::Always,
            true if count == 1 => ZeroCountRestart::Perhaps,
            _ => ZeroCountRestart::Never,
        }
    }
}

/// A string instruction whose last element has been moved. No other report has come since.
#[derive(Clone, Copy, Debug)]
pub(super) struct FinishedString {
    operation: Operation,
    port: Port,
    zero_count_restart: ZeroCountRestart,
}

impl FinishedString {
    pub fn new(string: &StringAttempt, report: &StringReport) -> FinishedString {
        let StringAttempt { operation, port, .. } = *string;
        FinishedString { operation, port, zero_count_restart: report.zero_count_restart }
    }

    /// Returns true if a report with count 0 is its restart.
    pub fn restarts_as(&self, operation: Operation, rflags: Rflags) -> bool {
        let is_due = match self.zero_count_restart {
            ZeroCountRestart::Always => true,
            // QEMU sets RF when it leaves a `rep`. Only an IRET sets it otherwise.
            ZeroCountRestart::Perhaps => rflags.contains(Rflags::RESUME),
            ZeroCountRestart::Never => false,
        };
        self.operation == operation && is_due
    }

    /// Returns the attempt that waits for the restart, if QEMU is certain to restart it.
    pub fn awaiting_restart(self) -> Option<StringAttempt> {
        (self.zero_count_restart == ZeroCountRestart::Always).then_some(StringAttempt {
            begun: true,
            ..StringAttempt::new(self.operation, self.port, 0)
        })
    }
}
