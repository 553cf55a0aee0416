//! Listeners to single accesses and their values: the access log, the values at chosen ports, observers, breakpoints,
//! the trace.
//!
//! Counting is not a listener: it needs no values, and must be fast.

use std::sync::Arc;

use crate::access_log::{Access, Code, CodeKind, VcpuLog};
use crate::breakpoints::VcpuBreaks;
use crate::observers::{ObservedCode, VcpuObservers};
use crate::stats::VcpuValues;
use crate::trace::VcpuTrace;
use crate::x86::{Direction, InsnForm, Port};

/// One vCPU's listeners, at least one, for use on the vCPU's thread.
pub struct AccessListeners {
    log: Option<VcpuLog>,
    values: Option<VcpuValues>,
    observers: Option<VcpuObservers>,
    breaks: Option<VcpuBreaks>,
    trace: Option<Arc<VcpuTrace>>,
}

impl AccessListeners {
    /// Returns `None` if there is no listener.
    pub fn new(
        log: Option<VcpuLog>,
        values: Option<VcpuValues>,
        observers: Option<VcpuObservers>,
        breaks: Option<VcpuBreaks>,
        trace: Option<Arc<VcpuTrace>>,
    ) -> Option<AccessListeners> {
        let is_any = log.is_some()
            || values.is_some()
            || observers.is_some()
            || breaks.is_some()
            || trace.is_some();
        is_any.then_some(AccessListeners { log, values, observers, breaks, trace })
    }

    /// Returns true if each access may be heard. Breakpoints come and go.
    #[inline]
    pub fn are_listening(&self) -> bool {
        self.log.is_some()
            || self.values.is_some()
            || self.observers.is_some()
            || self.trace.is_some()
            || self.breaks.as_ref().is_some_and(VcpuBreaks::are_any)
    }

    /// The trace, if it is the only listener now, and has no filters.
    #[inline]
    pub fn only_trace(&self) -> Option<&VcpuTrace> {
        let is_only = self.log.is_none()
            && self.values.is_none()
            && self.observers.is_none()
            && !self.breaks.as_ref().is_some_and(VcpuBreaks::are_any);
        self.trace().filter(|trace| is_only && trace.covers_all())
    }

    /// The trace, which also records events other than accesses.
    #[inline]
    pub fn trace(&self) -> Option<&VcpuTrace> {
        self.trace.as_deref()
    }

    /// Returns true if a listener may want accesses to a port. The other methods decide for each access.
    pub fn covers(&self, port: Port, direction: Direction) -> bool {
        self.log_of(port, direction).is_some()
            || self.values_of(port).is_some()
            || self.observers_of(port).is_some()
            || self.breaks_of(port, direction).is_some()
            || self.trace().is_some_and(|trace| trace.covers(port, direction))
    }

    /// Returns true if a listener may ever want accesses to a port, perhaps later.
    pub fn may_cover(&self, port: Port, direction: Direction) -> bool {
        self.log.as_ref().is_some_and(|log| log.may_cover(port, direction))
            || self.trace().is_some_and(|trace| trace.may_cover(port, direction))
            || self.breaks.is_some()
            || self.covers(port, direction)
    }

    fn breaks_of(&self, port: Port, direction: Direction) -> Option<&VcpuBreaks> {
        self.breaks.as_ref().filter(|breaks| breaks.cover(port, direction))
    }

    fn log_of(&self, port: Port, direction: Direction) -> Option<&VcpuLog> {
        self.log.as_ref().filter(|log| log.covers(port, direction))
    }

    fn values_of(&self, port: Port) -> Option<&VcpuValues> {
        self.values.as_ref().filter(|values| values.covers(port))
    }

    fn observers_of(&self, port: Port) -> Option<&VcpuObservers> {
        self.observers.as_ref().filter(|observers| observers.cover(port))
    }

    /// Passes on a complete access: an element of a string instruction, or an access by hypercall.
    ///
    /// It is not counted yet, nor are `earlier` ones of the same call before it.
    pub fn access(&self, code: Code, access: Access, port: Port, value: u32, earlier: u64) {
        if let Some(log) = self.log_of(port, access.direction) {
            log.access(code, access, port, value);
        }
        if let Some(values) = self.values_of(port) {
            values.access((access.direction, access.size), port, value, earlier);
        }
        if let Some(observers) = self.observers_of(port) {
            observers.access(observed(code), (access.direction, access.size), port, value);
        }
        if let Some(breaks) = self.breaks_of(port, access.direction) {
            breaks.access(code, access, port, value);
        }
    }

    /// The start of an `in` or `out`. `value` is what an `out` writes; `None` for an `in`.
    ///
    /// `may_fault_unreported` is true if it may fault for lack of privilege, and QEMU does not report that. Returns
    /// whether a listener wants the access.
    pub fn start(
        &self,
        code: Code,
        form: InsnForm,
        port: Port,
        value: Option<u32>,
        may_fault_unreported: bool,
    ) -> bool {
        let log = self.log_of(port, form.direction());
        let is_logged =
            log.is_some_and(|log| log.start(code, form, port, value, may_fault_unreported));
        let values = self.values_of(port);
        if let Some(values) = values {
            values.start((form.direction(), form.size()), port, value, may_fault_unreported);
        }
        let observers = self.observers_of(port);
        if let Some(observers) = observers {
            let access = (form.direction(), form.size());
            observers.start(observed(code), access, port, value, may_fault_unreported);
        }
        if let Some(breaks) = self.breaks_of(port, form.direction()) {
            breaks.start(code, form, port, value, may_fault_unreported);
        }
        is_logged || values.is_some() || observers.is_some()
    }

    /// The pending access has retired. An `in` has left its value in EAX.
    pub fn retire(&self, eax: impl FnOnce() -> u32) {
        let eax = std::cell::LazyCell::new(eax);
        if let Some(log) = &self.log {
            log.retire(|| *eax);
        }
        if let Some(values) = &self.values {
            values.retire(|| *eax);
        }
        if let Some(observers) = &self.observers {
            observers.retire(|| *eax);
        }
        if let Some(trace) = &self.trace {
            trace.retire(|| *eax);
        }
    }

    /// Notes EAX as the value of a pending `in`, which may still turn out to have faulted.
    pub fn note_value(&self, eax: impl FnOnce() -> u32) {
        let eax = std::cell::LazyCell::new(eax);
        if let Some(log) = &self.log {
            log.note_value(|| *eax);
        }
        if let Some(values) = &self.values {
            values.note_value(|| *eax);
        }
        if let Some(observers) = &self.observers {
            observers.note_value(|| *eax);
        }
        if let Some(trace) = &self.trace {
            trace.note_value(|| *eax);
        }
    }

    /// The pending access has retired, with the value that [`AccessListeners::note_value`] noted.
    pub fn retire_noted(&self) {
        if let Some(log) = &self.log {
            log.retire_noted();
        }
        if let Some(values) = &self.values {
            values.retire_noted();
        }
        if let Some(observers) = &self.observers {
            observers.retire_noted();
        }
        if let Some(trace) = &self.trace {
            trace.settled();
        }
    }

    /// The pending access faulted, or a hypervisor intercepted it.
    pub fn discard(&self) {
        if let Some(log) = &self.log {
            log.discard();
        }
        if let Some(values) = &self.values {
            values.discard();
        }
        if let Some(observers) = &self.observers {
            observers.discard();
        }
        if let Some(breaks) = &self.breaks {
            breaks.discard();
        }
        if let Some(trace) = &self.trace {
            trace.settled();
        }
    }
}

fn observed(code: Code) -> ObservedCode {
    let by_hypercall = matches!(code.kind, CodeKind::Call | CodeKind::CallFrom);
    ObservedCode { pc: code.pc, by_hypercall }
}
