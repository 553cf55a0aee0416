//! Records what attempts do: in the statistics, and for those who listen to accesses.

use std::sync::Arc;

use super::operation::Operation;
use super::string_attempt::StringAttempt;
use crate::access_listeners::AccessListeners;
use crate::access_log::{Code, CodeKind};
use crate::stats::{CallerId, ProcessUse, VcpuCounters, VcpuProcessCounts};
use crate::x86::{Direction, Port};

/// An attempt that makes no memory access, so that QEMU reports nothing of its end: a scalar, or a `rep` of count 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnobservedAttempt {
    pub operation: Operation,
    /// The port that a scalar accesses.
    pub port: Option<Port>,
    /// The call chain that a scalar's access is counted by.
    pub caller: CallerId,
}

impl UnobservedAttempt {
    /// Returns whether one may be a restart of the other.
    #[inline]
    pub fn is_same(&self, other: &UnobservedAttempt) -> bool {
        (self.operation, self.port) == (other.operation, other.port)
    }
}

/// One vCPU's counters, and the listeners to its accesses.
///
/// Each method is one change of what is known of an attempt. What was counted before is taken back.
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

    /// Returns whether anybody listens to accesses now.
    #[inline]
    pub fn has_listeners(&self) -> bool {
        self.listeners.as_ref().is_some_and(AccessListeners::are_listening)
    }

    /// Returns whether accesses to a port may be heard.
    pub fn is_heard(&self, port: Port, direction: Direction) -> bool {
        self.listeners_to(port, direction).is_some()
    }

    fn listeners_to(&self, port: Port, direction: Direction) -> Option<&AccessListeners> {
        self.listeners.as_ref().filter(|listeners| listeners.covers(port, direction))
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

    /// Counts accesses by process, if that is asked for. A negative number takes back.
    pub fn accessed_by_process(&self, operation: Operation, count: i64) {
        if let Some((counts, process)) = self.by_process(operation) {
            counts.accessed(process, count);
        }
    }

    /// Counts accesses by call chain, if that is asked for.
    #[inline]
    pub fn called(&self, operation: Operation, caller: CallerId, count: u64) {
        if let Some(chains) = self.counters.chains() {
            chains.accessed(operation.site(), caller, count);
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
    }

    pub fn unverified_becomes_executed(&self, attempt: UnobservedAttempt) {
        self.not_unverified(attempt);
        self.executed(attempt);
    }

    pub fn unverified_becomes_fault(&self, attempt: UnobservedAttempt) {
        self.not_unverified(attempt);
        self.counters.fault(attempt.operation.form());
        self.not_retired();
    }

    pub fn executed_becomes_exit(&self, attempt: UnobservedAttempt) {
        self.not_executed(attempt);
        self.exit(attempt.operation);
    }

    pub fn unverified_becomes_exit(&self, attempt: UnobservedAttempt) {
        self.not_unverified(attempt);
        self.exit(attempt.operation);
    }

    fn not_executed(&self, UnobservedAttempt { operation, port, caller }: UnobservedAttempt) {
        self.counters.not_executed(operation.form(), operation.site(), port);
        if let Some((counts, process)) = self.by_process(operation) {
            counts.executed(process, -1);
            counts.accessed(process, -i64::from(port.is_some()));
        }
        if let Some(chains) = self.counters.chains().filter(|_| port.is_some()) {
            chains.take_back(operation.site(), caller);
        }
    }

    fn not_unverified(&self, UnobservedAttempt { operation, port, .. }: UnobservedAttempt) {
        self.counters.not_unverified(operation.form(), operation.site(), port);
        if let Some((counts, process)) = self.by_process(operation) {
            counts.unverified(process, -1);
        }
    }

    /// A hypervisor in the guest has intercepted the instruction.
    pub fn exit(&self, operation: Operation) {
        self.counters.exit(operation.form());
    }

    /// A string instruction has faulted. It may resume.
    pub fn string_faulted(&self, operation: Operation) {
        self.counters.fault(operation.form());
    }

    /// A string instruction has moved one element, and is done if none remains.
    pub fn element(&self, string: &StringAttempt, caller: CallerId, value: impl FnOnce() -> u32) {
        let StringAttempt { operation, port, remaining, .. } = *string;
        let (form, site) = (operation.form(), operation.site());
        if let Some(listeners) = self.listeners_to(port, form.direction()) {
            listeners.access(code(operation), form.into(), port, value(), 0);
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

    /// Tells the listeners of the start of a scalar that is counted. Returns whether they hear it.
    ///
    /// `value` is what `out` writes. `is_in_question` says that it may fault without a report.
    pub fn scalar_started(
        &self,
        operation: Operation,
        port: Port,
        value: impl FnOnce() -> Option<u32>,
        is_in_question: bool,
    ) -> bool {
        let form = operation.form();
        let Some(listeners) = self.listeners_to(port, form.direction()) else { return false };
        listeners.start(code(operation), form, port, value(), is_in_question)
    }

    /// Tells the listeners that the last scalar has not retired.
    pub fn not_retired(&self) {
        if let Some(listeners) = &self.listeners {
            listeners.discard();
        }
    }

    /// Tells the listeners that the last scalar has retired.
    pub fn retired(&self) {
        if let Some(listeners) = &self.listeners {
            listeners.retire_noted();
        }
    }

    /// Tells the listeners the value that the last scalar has read, at the beginning of the next block.
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

fn code(operation: Operation) -> Code {
    Code { pc: operation.pc(), kind: operation.site().map_or(CodeKind::Dropped, CodeKind::Site) }
}
