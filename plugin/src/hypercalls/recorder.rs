//! Records what a call does: in the statistics, and for the listeners to accesses.

use pvio_guest::abi::{Status, status};

use super::port_io::IoCall;
use super::refusal::Refusal;
use crate::access_listeners::AccessListeners;
use crate::access_log::{Access, Code, CodeKind};
use crate::stats::{Call, CallAt, CallOrigin, Outcome, VcpuCounters};
use crate::trace::VcpuTrace;
use crate::x86::{Direction, Port};

/// Records one call.
#[derive(Clone, Copy)]
pub(super) struct CallRecorder<'a> {
    pub counters: &'a VcpuCounters,
    pub listeners: Option<&'a AccessListeners>,
    /// The code that makes the call.
    pub origin: CallOrigin,
}

impl<'a> CallRecorder<'a> {
    /// Makes the status word for a call's result. Counts the call unless it has counted itself.
    #[inline]
    pub fn answered(self, call: Call, result: Result<u32, Refusal>) -> Status {
        match result {
            Ok(data) => {
                let is_scalar = IoCall::of(call).is_some_and(|io| !io.is_string);
                if !is_scalar && call != Call::Exit {
                    self.ended(call, Outcome::Ok, 1);
                }
                Status::new(status::OK, data)
            }
            Err(refusal) => {
                self.ended(call, refusal.outcome(), 1);
                Status::new(refusal.0, 0)
            }
        }
    }

    /// Records calls that have ended.
    pub fn ended(self, call: Call, outcome: Outcome, count: u64) {
        self.counters.hypercalls(self.origin.site, call, outcome, count);
        if let Some(trace) = self.trace() {
            trace.calls_ended(call, outcome, (count, 0), &self.origin);
        }
    }

    /// Records bytes that a call moved, other than those of accesses.
    pub fn moved_bytes(self, call: Call, bytes: u64) {
        self.counters.hypercall_moved_bytes(self.origin.site, call, bytes);
        if let Some(trace) = self.trace() {
            trace.calls_ended(call, Outcome::Ok, (0, bytes), &self.origin);
        }
    }

    /// Records a successful call of one element.
    #[inline]
    pub fn moved_one(self, io: IoCall, port: Port, value: u32) {
        if let Some(listeners) = self.listeners_to(port, io.direction) {
            listeners.access(self.code(), access(io), port, value, 0);
            if let Some(trace) = listeners.trace() {
                trace.call_access(io.call, port, value, &self.origin, true);
            }
        }
        self.counters.hypercall_moved(&self.origin, io.call, port, 1, true);
    }

    /// Records elements of a call that ends later.
    pub fn moved_string(self, io: IoCall, port: Port, elements: &[u8]) {
        let size = usize::from(io.width.bytes());
        if let Some(listeners) = self.listeners_to(port, io.direction) {
            for (index, element) in (0..).zip(elements.chunks_exact(size)) {
                let mut value = [0; 4];
                value[..size].copy_from_slice(element);
                let value = u32::from_le_bytes(value);
                listeners.access(self.code(), access(io), port, value, index);
                if let Some(trace) = listeners.trace() {
                    trace.call_access(io.call, port, value, &self.origin, false);
                }
            }
        }
        let elements = (elements.len() / size) as u64;
        self.counters.hypercall_moved(&self.origin, io.call, port, elements, false);
    }

    pub fn trace(self) -> Option<&'a VcpuTrace> {
        self.listeners?.trace()
    }

    fn listeners_to(self, port: Port, direction: Direction) -> Option<&'a AccessListeners> {
        self.listeners.filter(|listeners| listeners.covers(port, direction))
    }

    fn code(self) -> Code {
        let kind = match self.origin.key.at {
            CallAt::Instruction => CodeKind::Call,
            CallAt::Return => CodeKind::CallFrom,
        };
        Code { pc: self.origin.key.pc, kind }
    }
}

fn access(io: IoCall) -> Access {
    Access { direction: io.direction, size: io.width.into() }
}
