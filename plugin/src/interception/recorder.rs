//! Records what attempts do: in the statistics and in the access log.

use std::sync::Arc;

use super::operation::Operation;
use super::string_attempt::StringAttempt;
use crate::access_log::{Code, CodeKind, VcpuLog};
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

/// One vCPU's counters and access log.
///
/// Each method is one change of what is known of an attempt. What was counted before is taken back.
pub(super) struct Recorder {
    counters: Arc<VcpuCounters>,
    log: Option<VcpuLog>,
}

impl Recorder {
    pub fn new(counters: Arc<VcpuCounters>, log: Option<VcpuLog>) -> Recorder {
        Recorder { counters, log }
    }

    #[inline]
    pub fn counters(&self) -> &VcpuCounters {
        &self.counters
    }

    /// Returns whether there is an access log.
    #[inline]
    pub fn has_log(&self) -> bool {
        self.log.is_some()
    }

    /// Returns whether accesses to a port may be logged.
    pub fn logs(&self, port: Port, direction: Direction) -> bool {
        self.log_of(port, direction).is_some()
    }

    fn log_of(&self, port: Port, direction: Direction) -> Option<&VcpuLog> {
        self.log.as_ref().filter(|log| log.covers(port, direction))
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
        self.log_not_retired();
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
        self.counters.accessed(form, site, port);
        self.called(operation, caller, 1);
        self.accessed_by_process(operation, 1);
        if remaining == 0 {
            self.counters.executed(form, site);
            if let Some((counts, process)) = self.by_process(operation) {
                counts.executed(process, 1);
            }
        }
        if let Some(log) = self.log_of(port, form.direction()) {
            log.access(code(operation), form.into(), port, value());
        }
    }

    /// Logs the start of a scalar, if the filters cover it. Returns whether they do.
    ///
    /// `value` is what `out` writes. `is_in_question` says that it may fault without a report.
    pub fn log_scalar(
        &self,
        operation: Operation,
        port: Port,
        value: impl FnOnce() -> Option<u32>,
        is_in_question: bool,
    ) -> bool {
        let form = operation.form();
        let Some(log) = self.log_of(port, form.direction()) else { return false };
        log.start(code(operation), form, port, value(), is_in_question)
    }

    /// Logs that the last scalar has not retired.
    pub fn log_not_retired(&self) {
        if let Some(log) = &self.log {
            log.discard();
        }
    }

    /// Logs that the last scalar has retired.
    pub fn log_retired(&self) {
        if let Some(log) = &self.log {
            log.retire_noted();
        }
    }

    /// Logs the value that the last scalar has read, at the beginning of the next block.
    ///
    /// The block may be a hypervisor's, which is known when its first instruction is reported. `may_have_exited` says so.
    pub fn log_value_read(&self, eax: impl FnOnce() -> u32, may_have_exited: bool) {
        let Some(log) = &self.log else { return };
        match may_have_exited {
            true => log.note_value(eax),
            false => log.retire(eax),
        }
    }
}

fn code(operation: Operation) -> Code {
    Code { pc: operation.pc(), kind: operation.site().map_or(CodeKind::Dropped, CodeKind::Site) }
}
