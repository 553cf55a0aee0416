//! The attempts of one vCPU: how each starts, and the ways in which it can end.
//!
//! QEMU reports an instruction *before* it runs, and reports it again when it is restarted. It does not report that the
//! instruction is done. So:
//!
//! - `in` and `out` access no memory. With I/O privilege they cannot fault, and one report is one execution. Without it,
//!   the execution is taken back if an exception from its address follows (or counted as unverified, if QEMU does not
//!   report exceptions).
//! - QEMU reports a memory access for each element of `ins` and `outs`, when the element can no longer fault. An attempt is
//!   complete when all its elements are moved.
//! - A `rep` that is left in the middle waits in [`InterruptedStrings`] until it resumes: after an interrupt, after a
//!   fault, or because QEMU pauses after 65,536 elements.
//! - A hypervisor in the guest may intercept any of these instructions. That ends an attempt before it has any effect, and
//!   pvio notices it only when the nested guest exits. Until then the instruction counts as executed.

use std::sync::Arc;

use super::interrupted::InterruptedStrings;
use super::operation::Operation;
use super::recorder::{Recorder, UnobservedAttempt};
use super::string_attempt::{FinishedString, StringAttempt, StringReport};
use crate::qemu::Token;
use crate::x86::{Direction, GuestExit, Port, Rflags};

/// The state of the last attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Attempt {
    /// It has ended, or there was none.
    #[default]
    Ended,
    /// It counts as executed, until an exception from its address or a #VMEXIT shows otherwise.
    Presumed(UnobservedAttempt),
    /// It was presumed executed; then an exception was raised that is not delivered yet. It counts as unverified until
    /// the exception's address is known, and stays so if the machine ends or is reset.
    Suspected(UnobservedAttempt),
    /// It counts as unverified, in a nested guest: a #VMEXIT may still decide it.
    Unverified(UnobservedAttempt),
    /// It has elements left.
    Moving(StringAttempt, StringReport),
}

impl Attempt {
    fn operation(&self) -> Option<Operation> {
        match *self {
            Attempt::Ended => None,
            Attempt::Presumed(attempt)
            | Attempt::Suspected(attempt)
            | Attempt::Unverified(attempt) => Some(attempt.operation),
            Attempt::Moving(string, _) => Some(string.operation),
        }
    }
}

/// The attempts of one vCPU.
pub(super) struct Attempts {
    recorder: Recorder,
    interrupted: Arc<InterruptedStrings>,
    current: Attempt,
    finished: Option<FinishedString>,
    /// The last unobserved attempt that faulted (or may have, where faults are not reported). Its handler may restart it.
    faulted: Option<UnobservedAttempt>,
    /// True if an exception was raised and is not delivered yet.
    exception_raised: bool,
    /// True if nested guests may run, so that a #VMEXIT may undo counts.
    guests_run: bool,
}

/// The start of an attempt.
impl Attempts {
    pub fn new(recorder: Recorder, interrupted: Arc<InterruptedStrings>) -> Attempts {
        Attempts {
            recorder,
            interrupted,
            current: Attempt::Ended,
            finished: None,
            faulted: None,
            exception_raised: false,
            guests_run: false,
        }
    }

    #[inline]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Returns true if a report of an instruction that cannot fault changes nothing but counters.
    #[inline]
    pub fn are_settled(&self) -> bool {
        matches!(self.current, Attempt::Ended)
            && self.finished.is_none()
            && self.faulted.is_none()
            && !self.guests_run
    }

    /// An instruction has been reported: a pending exception was not delivered.
    #[inline]
    pub fn reported(&mut self) {
        self.exception_raised = false;
    }

    /// Removes the attempt from those that have faulted. Returns whether it was the last.
    #[inline]
    pub fn take_faulted(&mut self, attempt: UnobservedAttempt) -> bool {
        self.faulted.is_some()
            && self.faulted.take_if(|faulted| faulted.is_same(&attempt)).is_some()
    }

    /// Starts, or resumes, an attempt that may fault without a report.
    pub fn start_unverified(&mut self, attempt: UnobservedAttempt, is_resumed: bool) {
        if !is_resumed {
            self.recorder.started(attempt.operation);
            self.recorder.unverified(attempt);
        }
        self.faulted = Some(attempt);
        if self.guests_run {
            self.current = Attempt::Unverified(attempt);
        }
    }

    /// Starts, or resumes after a fault, an attempt that is presumed executed.
    #[inline]
    pub fn start_presumed(&mut self, attempt: UnobservedAttempt, is_resumed: bool) {
        match is_resumed {
            true => self.recorder.fault_resumed(attempt.operation),
            false => self.recorder.started(attempt.operation),
        }
        self.recorder.executed(attempt);
        // A privileged one has retired, unless a hypervisor intercepts it. If an exception comes from its address all the
        // same, it is an instruction breakpoint, to which a jump has led straight back.
        if !attempt.operation.is_privileged() || self.guests_run {
            self.current = Attempt::Presumed(attempt);
        }
    }

    /// Returns true if a report with count 0 is the end of a `rep` that already counts as executed.
    pub fn take_zero_count_restart(
        &mut self,
        operation: Operation,
        port: Port,
        rflags: Rflags,
    ) -> bool {
        self.finished.take_if(|finished| finished.restarts_as(operation, rflags)).is_some()
            || self.interrupted.take(|string| string.continues_as(operation, port, 0)).is_some()
    }

    /// Starts a string instruction, or resumes the attempt that its report continues.
    ///
    /// `is_resumed` says that a handler or a hypervisor has returned to it.
    pub fn start_string(
        &mut self,
        operation: Operation,
        port: Port,
        count: u64,
        is_resumed: bool,
        exceptions_reported: bool,
    ) -> StringAttempt {
        let resumed = self.resume_string(operation, port, count, is_resumed, exceptions_reported);
        resumed.unwrap_or_else(|| {
            self.abandon_current();
            self.recorder.string_started(operation);
            StringAttempt::new(operation, port, count)
        })
    }

    fn resume_string(
        &mut self,
        operation: Operation,
        port: Port,
        count: u64,
        is_resumed: bool,
        exceptions_reported: bool,
    ) -> Option<StringAttempt> {
        // Nothing was reported in between: QEMU itself started over, because it pauses a long `rep` or because an `ins`
        // has overwritten its own block. Or it is an `outs` whose first element faulted without a report.
        if let Attempt::Moving(string, _) = self.current
            && string.continues_as(operation, port, count)
            && (exceptions_reported
                || operation.form().direction() == Direction::In
                || !string.must_show_rf()
                || is_resumed)
        {
            self.current = Attempt::Ended;
            return Some(string);
        }
        let string = self.interrupted.take(|string| {
            string.continues_as(operation, port, count) && (is_resumed || !string.must_show_rf())
        })?;
        self.abandon_current();
        if string.faulted {
            self.recorder.string_resumed(operation);
        }
        Some(StringAttempt { faulted: false, ..string })
    }

    /// QEMU is about to move the elements of a string instruction that are left.
    pub fn move_elements(&mut self, string: StringAttempt, report: StringReport) {
        self.current = Attempt::Moving(string, report);
    }

    /// An instruction has accessed memory.
    pub fn memory_accessed(&mut self, token: Token, value: impl FnOnce() -> u32) {
        let Attempt::Moving(string, report) = &mut self.current else { return };
        if !report.moves_element(token, string.operation.form().direction()) {
            return;
        }
        string.move_elements(1);
        self.recorder.element(string, report.caller(), value);
        if string.remaining == 0 {
            self.finished = Some(FinishedString::new(string, report));
            self.current = Attempt::Ended;
        }
    }
}

/// The end of an attempt when another instruction is reported.
impl Attempts {
    /// Another instruction runs, which does not continue any attempt.
    #[inline]
    pub fn abandon_previous(&mut self) {
        // Nearly always there is nothing to abandon.
        if self.finished.is_some() {
            self.abandon_finished();
        }
        if !matches!(self.current, Attempt::Ended) {
            self.abandon_current();
        }
    }

    /// The current attempt is over, or interrupted.
    pub fn abandon_current(&mut self) {
        match std::mem::take(&mut self.current) {
            Attempt::Moving(string, _) => self.interrupted.put(string),
            Attempt::Presumed(_) if self.guests_run => self.recorder.retired(),
            // The exception was not delivered, as in a triple fault, which resets the machine.
            Attempt::Suspected(_) => self.recorder.not_retired(),
            Attempt::Presumed(_) | Attempt::Unverified(_) | Attempt::Ended => {}
        }
    }

    /// Another instruction runs before QEMU has restarted a finished `rep`.
    pub fn abandon_finished(&mut self) {
        if let Some(string) = self.finished.take().and_then(FinishedString::awaiting_restart) {
            self.interrupted.put(string);
        }
    }
}

/// The end of an attempt by an exception or interrupt.
impl Attempts {
    /// Handles an exception of the current or of a later instruction. Its delivery shows which.
    pub fn exception_raised(&mut self) {
        self.exception_raised = true;
        if let Attempt::Presumed(attempt) = self.current
            && !attempt.operation.is_privileged()
        {
            self.recorder.executed_becomes_unverified(attempt);
            self.current = Attempt::Suspected(attempt);
        }
    }

    /// A handler was entered from an address.
    pub fn delivered(&mut self, from: u64) {
        let by_exception = std::mem::take(&mut self.exception_raised);
        let Some(operation) = self.current.operation() else { return };
        if operation.is_at(from) {
            self.interrupted_by_handler(by_exception);
        } else {
            self.clear_suspicion();
            self.abandon_current();
        }
    }

    /// The exception came from a later instruction.
    fn clear_suspicion(&mut self) {
        if let Attempt::Suspected(attempt) = self.current {
            self.recorder.unverified_becomes_executed(attempt);
            self.current = Attempt::Presumed(attempt);
        }
    }

    /// A handler was entered from the current instruction.
    fn interrupted_by_handler(&mut self, by_exception: bool) {
        match std::mem::take(&mut self.current) {
            Attempt::Suspected(attempt) => {
                self.recorder.unverified_becomes_fault(attempt);
                self.faulted = Some(attempt);
            }
            Attempt::Moving(string, report) => {
                let faulted = by_exception && !report.is_after_trap();
                if faulted {
                    self.recorder.string_faulted(string.operation);
                }
                self.interrupted.put(StringAttempt { faulted, ..string });
            }
            Attempt::Presumed(_) | Attempt::Unverified(_) | Attempt::Ended => {}
        }
    }
}

/// The end of an attempt in a nested guest.
impl Attempts {
    /// Sets whether nested guests may run from now on.
    pub fn set_guests_run(&mut self, guests_run: bool) {
        self.guests_run = guests_run;
    }

    /// The nested guest has exited; `None` if the reason is not known.
    pub fn guest_exited(&mut self, reason: Option<GuestExit>) {
        let operation = self.current.operation();
        match reason {
            Some(GuestExit::PortIo) => self.intercepted(),
            Some(GuestExit::Exception(at)) if operation.is_some_and(|last| last.is_at(at)) => {
                self.exception_raised();
                self.interrupted_by_handler(true);
            }
            Some(_) => self.abandon_current(),
            None => self.exited_for_unknown_reason(),
        }
    }

    /// The I/O permission map has intercepted the current instruction.
    fn intercepted(&mut self) {
        match std::mem::take(&mut self.current) {
            Attempt::Ended | Attempt::Suspected(_) => {}
            Attempt::Presumed(attempt) => self.recorder.executed_becomes_exit(attempt),
            Attempt::Unverified(attempt) => {
                // The processor checks the privilege first, so it did not fault.
                self.faulted = None;
                self.recorder.unverified_becomes_exit(attempt);
            }
            Attempt::Moving(string, _) => self.recorder.string_exited(string.operation),
        }
        self.recorder.not_retired();
    }

    /// The exit was at or after the current instruction; QEMU does not say which.
    fn exited_for_unknown_reason(&mut self) {
        match self.current {
            Attempt::Presumed(attempt) => {
                self.recorder.executed_becomes_unverified(attempt);
                self.current = Attempt::Ended;
            }
            _ => self.abandon_current(),
        }
    }

    /// Replaces the current attempt by that of another vCPU, which shares the thread.
    pub fn switch(&mut self, other: Attempt) -> Attempt {
        std::mem::replace(&mut self.current, other)
    }

    /// Another vCPU's attempt is over, or interrupted.
    pub fn abandon_other(&self, attempt: Attempt) {
        if let Attempt::Moving(string, _) = attempt {
            self.interrupted.put(string);
        }
    }
}
