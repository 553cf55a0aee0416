//! One vCPU's attempts at port I/O, and how each ends.
//!
//! QEMU reports an instruction *before* it runs, and reports it again when it is restarted. What it
//! does not report is that the instruction is done. So:
//!
//! - `in` and `out` touch no memory: with the privilege for it they cannot fault, and one report is
//!   one execution. Where privilege is in question, they are taken back when an exception from their
//!   address follows (or counted as unverified where QEMU reports no exceptions).
//! - `ins` and `outs` show each element by a memory access, after it can no longer fault. An attempt
//!   is done when all its elements are.
//! - Before an `outs` that needs the I/O permission bitmap, two loads of QEMU's own show as if they
//!   were its; they come first, and are left out.
//! - A `rep` that is left in the middle, by an interrupt, a fault or because QEMU pauses after
//!   65,536 elements, waits in a short list until it goes on.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::Rules;
use super::operation::Operation;
use crate::qemu::{self, Discontinuity, Register, Registers, Token};
use crate::stats::Tally;
use crate::x86::{Direction, Port, PortSource, RFLAGS_RF, may_do_port_io_unconditionally};

/// How many interrupted string instructions one vCPU may have to come back to: one for each level
/// of nested handlers and each guest thread that was switched away in the middle of one.
const MOST_INTERRUPTED: usize = 32;

/// How many scalars that faulted one vCPU may have to come back to.
const MOST_REFUSED: usize = 8;

/// What QEMU loads, through the memory callbacks of the instruction itself, to look into the I/O
/// permission bitmap: where it begins, and two bytes of it (SDM vol. 1, "I/O Permission Bit Map").
const LOADS_FOR_BITMAP: u8 = 2;

/// The string instruction that a vCPU is in.
#[derive(Clone, Copy, Debug)]
struct StringAttempt {
    operation: Operation,
    port: Port,
    /// Elements still to be moved.
    remaining: u64,
    /// `ins` writes each element twice, first a dummy that shows whether the page may be written;
    /// whether that has been seen.
    probed: bool,
    /// An element has been moved.
    begun: bool,
    /// A fault has been delivered from it, and counted.
    faulted: bool,
    /// Loads still to come that are for the I/O permission bitmap; if it permits, all of them do.
    loads_for_bitmap: u8,
}

impl StringAttempt {
    /// Whether only a report with EFLAGS.RF set can be this attempt going on.
    ///
    /// One that was given up after a fault looks like a new start with the same count; but what comes
    /// back from a fault handler has RF set. Where faults are not reported, one that has not moved an
    /// element must have faulted: nothing else comes before the first. What comes back from an
    /// interrupt handler need not have RF: a 16-bit IRET drops it.
    fn must_show_rf(&self) -> bool {
        self.faulted || !self.begun
    }
}

/// The last report.
#[derive(Clone, Copy, Debug)]
enum Current {
    /// Nothing that could still change.
    Nothing,
    /// Counted as executed, with an access to the port or without (a `rep` of count 0), until an
    /// exception from its address says otherwise.
    Presumed(Operation, Option<Port>),
    /// Not all elements have been moved.
    InString(StringAttempt),
}

/// Counts what one vCPU does.
pub(super) struct VcpuCounter {
    rules: Rules,
    tally: Arc<Tally>,
    current: Current,
    interrupted: ArrayVec<StringAttempt, MOST_INTERRUPTED>,
    /// What faulted without any element to tell it by, and may be taken up again; where faults are
    /// not reported, what may have.
    refused: ArrayVec<Operation, MOST_REFUSED>,
    /// An exception was raised and is not delivered yet.
    exception: bool,
    /// A string instruction whose last element has just been moved; no other report has come since.
    just_done: Option<StringAttempt>,
}

impl VcpuCounter {
    pub fn new(rules: Rules, tally: Arc<Tally>) -> VcpuCounter {
        VcpuCounter {
            rules,
            tally,
            current: Current::Nothing,
            interrupted: ArrayVec::new(),
            refused: ArrayVec::new(),
            exception: false,
            just_done: None,
        }
    }

    /// An `in` or `out`.
    fn scalar(&mut self, operation: Operation, registers: &mut Registers<'_>) {
        let port = match operation.form().source() {
            PortSource::Immediate => operation.immediate(),
            _ => Port(registers.read(Register::Rdx) as u16),
        };
        self.leave_current();
        self.attempt_without_elements(operation, Some(port), registers);
    }

    /// Opens and closes an attempt of which no memory access will tell: a scalar, or a `rep` of
    /// count 0.
    fn attempt_without_elements(
        &mut self,
        operation: Operation,
        port: Option<Port>,
        registers: &mut Registers<'_>,
    ) {
        let (form, site) = (operation.form(), operation.site());
        let is_taken_up = self.takes_up_refused(operation, registers);
        if !self.rules.exceptions_reported && !is_privileged(operation, registers) {
            if !is_taken_up {
                self.tally.attempt(form);
                self.tally.unverified(form, site, port);
            }
            // Only the last can be taken up: which others faulted is not known.
            self.refused.clear();
            self.refused.push(operation);
            return;
        }
        match is_taken_up && self.rules.exceptions_reported {
            true => self.tally.fault_resumed(form),
            false => self.tally.attempt(form),
        }
        self.tally.executed(form, site);
        if let Some(port) = port {
            self.tally.accessed(form, site, port);
        }
        self.current = Current::Presumed(operation, port);
    }

    /// Whether this is one that faulted before, and goes on now that its handler has seen to the
    /// cause: a fault pushes EFLAGS with RF set (SDM vol. 3, "Instruction-Breakpoint Exception
    /// Condition").
    fn takes_up_refused(&mut self, operation: Operation, registers: &mut Registers<'_>) -> bool {
        let Some(place) = self.refused.iter().rposition(|&refused| refused == operation) else {
            return false;
        };
        let goes_on = has_rf(registers);
        if goes_on {
            self.refused.remove(place);
        }
        goes_on
    }

    /// An `ins` or `outs`, with or without a repeat prefix.
    fn string(&mut self, operation: Operation, registers: &mut Registers<'_>) {
        let port = Port(registers.read(Register::Rdx) as u16);
        let repeats = operation.form().source() == PortSource::RepString;
        let count = match repeats {
            true => operation.address_size().count(registers.read(Register::Rcx)),
            false => 1,
        };
        let just_done = self.just_done.take();
        let loads_for_bitmap = match operation.form().direction() {
            Direction::Out if count > 0 && !is_privileged(operation, registers) => LOADS_FOR_BITMAP,
            _ => 0,
        };
        if let Some(attempt) = self.take_restarted(operation, count, registers) {
            self.leave_current();
            if attempt.remaining > 0 {
                let probed = false;
                self.current =
                    Current::InString(StringAttempt { probed, loads_for_bitmap, ..attempt });
            }
            return;
        }
        if count > 0 {
            self.leave_current();
            self.tally.attempt(operation.form());
            self.current = Current::InString(StringAttempt {
                operation,
                port,
                remaining: count,
                probed: false,
                begun: false,
                faulted: false,
                loads_for_bitmap,
            });
            return;
        }
        // Where QEMU stops after each element (single steps, -icount), it looks at the count once
        // more when all are moved: the attempt is already counted as done.
        let was_done = just_done.is_some_and(|done| done.operation == operation);
        let only_ends = match self.rules.rf_marks_reentry {
            true => has_rf(registers) && (was_done || !self.refused.contains(&operation)),
            false => was_done,
        };
        self.leave_current();
        if !only_ends {
            self.attempt_without_elements(operation, None, registers);
        }
    }

    /// The attempt that goes on with this report, if one does: same instruction, and just the
    /// elements left that the count says.
    fn take_restarted(
        &mut self,
        operation: Operation,
        count: u64,
        registers: &mut Registers<'_>,
    ) -> Option<StringAttempt> {
        let goes_on =
            |attempt: &StringAttempt| attempt.operation == operation && attempt.remaining == count;
        // Nothing was reported in between: QEMU itself started over, because it pauses a long `rep`
        // or because an `ins` has overwritten its own block. Or it is an `outs` whose first element
        // faulted without a report.
        if let Current::InString(attempt) = self.current
            && goes_on(&attempt)
            && (self.rules.exceptions_reported
                || operation.form().direction() == Direction::In
                || !attempt.must_show_rf()
                || has_rf(registers))
        {
            self.current = Current::Nothing;
            return Some(attempt);
        }
        // The latest first: handlers nest.
        let place = self.interrupted.iter().rposition(goes_on)?;
        if self.interrupted[place].must_show_rf() && !has_rf(registers) {
            return None;
        }
        let mut attempt = self.interrupted.remove(place);
        if attempt.faulted {
            // The fault was handled and the instruction goes on: the same attempt.
            self.tally.fault_resumed(attempt.operation.form());
            attempt.faulted = false;
        }
        Some(attempt)
    }

    /// Something else runs: what the vCPU was in is over, or interrupted.
    fn leave_current(&mut self) {
        if let Current::InString(attempt) = std::mem::replace(&mut self.current, Current::Nothing) {
            self.interrupt(attempt);
        }
    }

    fn interrupt(&mut self, attempt: StringAttempt) {
        if self.interrupted.is_full() {
            // The oldest is the likeliest never to be resumed.
            self.interrupted.remove(0);
        }
        self.interrupted.push(attempt);
    }

    /// A handler has been entered from the instruction that `current` is.
    fn left_for_handler(&mut self, by_exception: bool) {
        match std::mem::replace(&mut self.current, Current::Nothing) {
            Current::Nothing => {}
            // A privileged one has retired: it is an instruction breakpoint, and a jump has led straight
            // back to it.
            Current::Presumed(operation, port) if by_exception && !operation.is_privileged() => {
                self.tally.not_executed(operation.form(), operation.site(), port);
                self.tally.fault(operation.form());
                if self.refused.is_full() {
                    self.refused.remove(0);
                }
                self.refused.push(operation);
            }
            Current::Presumed(..) => {}
            Current::InString(mut attempt) => {
                if by_exception {
                    self.tally.fault(attempt.operation.form());
                    attempt.faulted = true;
                }
                self.interrupt(attempt);
            }
        }
    }
}

impl qemu::Vcpu for VcpuCounter {
    fn about_to_run(&mut self, token: Token, registers: &mut Registers<'_>) {
        let operation = Operation::from_token(token);
        self.exception = false;
        if operation.form().is_string() {
            self.string(operation, registers);
        } else {
            self.just_done = None;
            self.scalar(operation, registers);
        }
    }

    fn memory_accessed(&mut self, token: Token) {
        let operation = Operation::from_token(token);
        let Current::InString(attempt) = &mut self.current else { return };
        if attempt.operation != operation {
            return;
        }
        if attempt.loads_for_bitmap > 0 {
            attempt.loads_for_bitmap -= 1;
            return;
        }
        if operation.form().direction() == Direction::In && !attempt.probed {
            attempt.probed = true;
            return;
        }
        (attempt.probed, attempt.begun) = (false, true);
        attempt.remaining -= 1;
        self.tally.accessed(operation.form(), operation.site(), attempt.port);
        if attempt.remaining == 0 {
            self.tally.executed(operation.form(), operation.site());
            self.just_done = Some(*attempt);
            self.current = Current::Nothing;
        }
    }

    fn discontinuity(&mut self, event: Discontinuity) {
        match event {
            Discontinuity::Exception => self.exception = true,
            Discontinuity::Delivered { from } => {
                let by_exception = std::mem::take(&mut self.exception);
                let is_at = |operation: Operation| {
                    operation.is_at(from, |site| self.tally.address_of(site))
                };
                // All elements are moved, and still it is this instruction that goes on: QEMU stops
                // after each, and has only to look at the count.
                if let Some(done) = self.just_done.take()
                    && is_at(done.operation)
                {
                    self.interrupt(done);
                    return;
                }
                let current = match self.current {
                    Current::Nothing => return,
                    Current::Presumed(operation, _) => operation,
                    Current::InString(attempt) => attempt.operation,
                };
                if is_at(current) {
                    self.left_for_handler(by_exception);
                } else {
                    self.leave_current();
                }
            }
        }
    }
}

fn has_rf(registers: &mut Registers<'_>) -> bool {
    registers.read(Register::Rflags) & RFLAGS_RF != 0
}

/// Whether it cannot get #GP for want of IOPL or of a bit in the TSS; then a scalar cannot fault at all.
fn is_privileged(operation: Operation, registers: &mut Registers<'_>) -> bool {
    if operation.is_privileged() {
        return true;
    }
    let rflags = registers.read(Register::Rflags);
    let cs = registers.read(Register::Cs);
    may_do_port_io_unconditionally(rflags, cs, || registers.read(Register::Cr0))
}

#[cfg(test)]
mod tests;
