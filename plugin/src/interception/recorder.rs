//! Records what attempts do: in the statistics, and for the listeners to accesses.

use std::sync::Arc;

use pvio_stats::trace::Stage;

use super::operation::Operation;
use super::string_attempt::StringAttempt;
use crate::access_listeners::AccessListeners;
use crate::access_log::{Code, CodeKind};
use crate::stats::{CallerId, ProcessUse, StackOwner, VcpuCounters, VcpuProcessCounts};
use crate::trace::{Change, TracedInsn, VcpuTrace};
use crate::x86::{Direction, Port};

/// An attempt that makes no memory access, so that QEMU reports nothing of its end: a scalar, or a `rep` of count 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnobservedAttempt {
    pub operation: Operation,
    /// The port that a scalar accesses.
    pub port: Option<Port>,
    /// The call chain under which a scalar's access is counted.
    pub caller: CallerId,
}

impl UnobservedAttempt {
    /// Returns true if one may be a restart of the other.
    #[inline]
    pub fn is_same(&self, other: &UnobservedAttempt) -> bool {
        (self.operation, self.port) == (other.operation, other.port)
    }
}

/// How an attempt that makes no memory access starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It is presumed executed.
    Presumed,
    /// It is presumed executed, and had faulted before.
    PresumedAfterFault,
    /// It may fault without a report.
    Unverified,
    /// It may fault without a report, and was counted before.
    UnverifiedAgain,
}

impl Start {
    /// Returns the stage for the trace; `None` if the trace has it already.
    pub fn stage(self) -> Option<Stage> {
        match self {
            Start::Presumed => Some(Stage::Executed),
            Start::PresumedAfterFault => Some(Stage::ResumedAndExecuted),
            Start::Unverified => Some(Stage::Unverified),
            Start::UnverifiedAgain => None,
        }
    }

    /// Returns true if it may fault without a report.
    pub fn may_fault_unreported(self) -> bool {
        matches!(self, Start::Unverified | Start::UnverifiedAgain)
    }
}

/// A scalar that has started, and is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScalarStart {
    pub operation: Operation,
    pub port: Port,
    pub caller: CallerId,
    pub start: Start,
    /// True if nothing can contradict it, and its value is known.
    pub is_final: bool,
}

/// One vCPU's counters, and the listeners to its accesses.
///
/// Each method records a new fact about an attempt. It subtracts the counts that the fact disproves.
pub(super) struct Recorder {
    counters: Arc<VcpuCounters>,
    listeners: Option<AccessListeners>,
}

impl Recorder {
    pub fn new(counters: Arc<VcpuCounters>, listeners: Option<AccessListeners>) -> Recorder {
        Recorder { counters, listeners }
    }

    #[inline]
    pub fn counters(&self) -> &VcpuCounters {
        &self.counters
    }

    /// Returns true if there are listeners to accesses, now or later.
    #[inline]
    pub fn has_listeners(&self) -> bool {
        self.listeners.is_some()
    }

    /// Returns true if a listener wants accesses now.
    #[inline]
    pub fn is_anyone_listening(&self) -> bool {
        self.listeners.as_ref().is_some_and(AccessListeners::are_listening)
    }

    /// Returns the trace, if it is the only listener now, and has no filters.
    #[inline]
    pub fn only_trace(&self) -> Option<&VcpuTrace> {
        self.listeners.as_ref()?.only_trace()
    }

    /// Returns true if a listener may want accesses to a port.
    pub fn is_heard(&self, port: Port, direction: Direction) -> bool {
        self.listeners_to(port, direction).is_some()
    }

    fn listeners_to(&self, port: Port, direction: Direction) -> Option<&AccessListeners> {
        self.listeners.as_ref().filter(|listeners| listeners.covers(port, direction))
    }

    #[inline]
    fn trace(&self) -> Option<&VcpuTrace> {
        self.listeners.as_ref()?.trace()
    }

    fn trace_change(&self, attempt: UnobservedAttempt, change: Change) {
        if let Some(trace) = self.trace() {
            let UnobservedAttempt { operation, port, caller } = attempt;
            trace.changed(&traced(&operation), change, (port, caller));
        }
    }

    fn trace_string(&self, operation: Operation, stage: Stage) {
        if let Some(trace) = self.trace() {
            trace.string(&traced(&operation), stage);
        }
    }

    /// Records in the trace an attempt without a port that has started or resumed.
    pub fn trace_without_port(
        &self,
        UnobservedAttempt { operation, caller, .. }: UnobservedAttempt,
        stage: Stage,
    ) {
        if let Some(trace) = self.trace() {
            trace.unobserved(&traced(&operation), stage, (None, caller, None), false);
        }
    }

    /// A string instruction has started.
    pub fn string_started(&self, operation: Operation) {
        self.started(operation);
        self.trace_string(operation, Stage::Started);
    }

    /// A fault of a string instruction was counted; it continues.
    pub fn string_resumed(&self, operation: Operation) {
        self.fault_resumed(operation);
        self.trace_string(operation, Stage::Resumed);
    }

    pub fn started(&self, operation: Operation) {
        self.counters.attempt(operation.form());
    }

    /// A fault of the attempt was counted; its handler has removed the cause, and the attempt continues.
    pub fn fault_resumed(&self, operation: Operation) {
        self.counters.fault_resumed(operation.form());
    }

    #[inline]
    pub fn executed(&self, UnobservedAttempt { operation, port, caller }: UnobservedAttempt) {
        let (form, site) = (operation.form(), operation.site());
        self.counters.executed(form, site);
        if let Some((counts, process)) = self.by_process(operation) {
            counts.executed(process, 1);
        }
        if let Some(port) = port {
            self.counters.accessed(form, site, port);
            self.called(operation, caller, 1);
            self.accessed_by_process(operation, 1);
        }
    }

    #[inline]
    fn by_process(&self, operation: Operation) -> Option<(&VcpuProcessCounts, ProcessUse)> {
        self.counters.processes().zip(operation.process())
    }

    /// Counts accesses by process, if processes are counted. A negative number subtracts.
    pub fn accessed_by_process(&self, operation: Operation, count: i64) {
        if let Some((counts, process)) = self.by_process(operation) {
            counts.accessed(process, count);
        }
    }

    /// Counts accesses by call chain, if call chains are counted.
    #[inline]
    pub fn called(&self, operation: Operation, caller: CallerId, count: u64) {
        if let Some(chains) = self.counters.chains() {
            chains.accessed(owner(&operation), caller, count);
        }
    }

    pub fn unverified(&self, UnobservedAttempt { operation, port, .. }: UnobservedAttempt) {
        self.counters.unverified(operation.form(), operation.site(), port);
        if let Some((counts, process)) = self.by_process(operation) {
            counts.unverified(process, 1);
        }
    }

    pub fn executed_becomes_unverified(&self, attempt: UnobservedAttempt) {
        self.not_executed(attempt);
        self.unverified(attempt);
        self.trace_change(attempt, Change::ExecutedToUnverified);
    }

    pub fn unverified_becomes_executed(&self, attempt: UnobservedAttempt) {
        self.not_unverified(attempt);
        self.executed(attempt);
        self.trace_change(attempt, Change::UnverifiedToExecuted);
    }

    pub fn unverified_becomes_fault(&self, attempt: UnobservedAttempt) {
        self.not_unverified(attempt);
        self.counters.fault(attempt.operation.form());
        self.trace_change(attempt, Change::UnverifiedToFault);
        self.not_retired();
    }

    pub fn executed_becomes_exit(&self, attempt: UnobservedAttempt) {
        self.not_executed(attempt);
        self.counters.exit(attempt.operation.form());
        self.trace_change(attempt, Change::ExecutedToExit);
    }

    pub fn unverified_becomes_exit(&self, attempt: UnobservedAttempt) {
        self.not_unverified(attempt);
        self.counters.exit(attempt.operation.form());
        self.trace_change(attempt, Change::UnverifiedToExit);
    }

    fn not_executed(&self, UnobservedAttempt { operation, port, caller }: UnobservedAttempt) {
        self.counters.not_executed(operation.form(), operation.site(), port);
        if let Some((counts, process)) = self.by_process(operation) {
            counts.executed(process, -1);
            counts.accessed(process, -i64::from(port.is_some()));
        }
        if let Some(chains) = self.counters.chains().filter(|_| port.is_some()) {
            chains.take_back(owner(&operation), caller);
        }
    }

    fn not_unverified(&self, UnobservedAttempt { operation, port, .. }: UnobservedAttempt) {
        self.counters.not_unverified(operation.form(), operation.site(), port);
        if let Some((counts, process)) = self.by_process(operation) {
            counts.unverified(process, -1);
        }
    }

    /// A hypervisor in the guest has intercepted a string instruction.
    pub fn string_exited(&self, operation: Operation) {
        self.counters.exit(operation.form());
        self.trace_string(operation, Stage::StringExited);
    }

    /// A string instruction has faulted. It may resume.
    pub fn string_faulted(&self, operation: Operation) {
        self.counters.fault(operation.form());
        self.trace_string(operation, Stage::StringFaulted);
    }

    /// A string instruction has moved one element, and is done if none remains.
    pub fn element(&self, string: &StringAttempt, caller: CallerId, value: impl FnOnce() -> u32) {
        let StringAttempt { operation, port, remaining, .. } = *string;
        let (form, site) = (operation.form(), operation.site());
        if let Some(listeners) = self.listeners_to(port, form.direction()) {
            let value = value();
            listeners.access(code(&operation), form.into(), port, value, 0);
            if let Some(trace) = listeners.trace() {
                trace.element(&traced(&operation), (port, caller, value), remaining == 0);
            }
        }
        self.counters.accessed(form, site, port);
        self.called(operation, caller, 1);
        self.accessed_by_process(operation, 1);
        if remaining == 0 {
            self.counters.executed(form, site);
            if let Some((counts, process)) = self.by_process(operation) {
                counts.executed(process, 1);
            }
        }
    }

    /// Passes the start of a counted scalar to the listeners. Returns true if a listener takes it.
    ///
    /// `value` is what `out` writes. If it `is_final`, nothing can contradict it.
    #[inline]
    pub fn scalar_started(
        &self,
        &ScalarStart { ref operation, port, caller, start, is_final }: &ScalarStart,
        value: impl FnOnce() -> Option<u32>,
    ) -> bool {
        let form = operation.form();
        let Some(listeners) = self.listeners_to(port, form.direction()) else { return false };
        let value = value();
        let is_heard =
            listeners.start(code(operation), form, port, value, start.may_fault_unreported());
        let is_traced = match (listeners.trace(), start.stage()) {
            (Some(trace), Some(stage)) => {
                let access = (Some(port), caller, value);
                trace.unobserved(&traced(operation), stage, access, is_final)
            }
            _ => false,
        };
        is_heard || is_traced
    }

    /// Informs the listeners that the last scalar has not retired.
    pub fn not_retired(&self) {
        if let Some(listeners) = &self.listeners {
            listeners.discard();
        }
    }

    /// Informs the listeners that the last scalar has retired.
    pub fn retired(&self) {
        if let Some(listeners) = &self.listeners {
            listeners.retire_noted();
        }
    }

    /// Passes the value that the last scalar has read to the listeners, at the beginning of the next block.
    ///
    /// The block may be a hypervisor's, which is known when its first instruction is reported. `may_have_exited` says so.
    pub fn value_read(&self, eax: impl FnOnce() -> u32, may_have_exited: bool) {
        let Some(listeners) = &self.listeners else { return };
        match may_have_exited {
            true => listeners.note_value(eax),
            false => listeners.retire(eax),
        }
    }
}

/// The owner of the stack of an instruction that has a row.
#[inline]
fn owner(operation: &Operation) -> Option<StackOwner> {
    operation.site().map(StackOwner::Site)
}

#[inline]
fn traced(operation: &Operation) -> TracedInsn {
    TracedInsn {
        form: operation.form(),
        site: operation.site(),
        pc: operation.pc(),
        process: operation.process(),
    }
}

fn code(operation: &Operation) -> Code {
    Code { pc: operation.pc(), kind: operation.site().map_or(CodeKind::Dropped, CodeKind::Site) }
}
