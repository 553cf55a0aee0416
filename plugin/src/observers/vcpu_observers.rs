//! The observers' part for one vCPU.
//!
//! An `in` or `out` is pending from its start until it retires or faults, as in the access log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{ObservedAccess, Observers, Pending, lock};
use crate::x86::{AccessSize, Direction, Port};

/// One vCPU's handle to the observers, for use on the vCPU's thread.
pub struct VcpuObservers {
    observers: Arc<Observers>,
    vcpu: u32,
    pending: Pending,
}

/// The code that makes an access.
#[derive(Clone, Copy, Debug)]
pub struct ObservedCode {
    /// Its linear address.
    pub pc: u64,
    /// True if it makes a hypercall.
    pub by_hypercall: bool,
}

impl VcpuObservers {
    /// A handle for the vCPU with this index.
    pub fn new(observers: Arc<Observers>, vcpu: u32) -> VcpuObservers {
        let pending = Pending::default();
        lock(&observers.pending).push(Arc::clone(&pending));
        VcpuObservers { observers, vcpu, pending }
    }

    /// Returns true if a port has an observer.
    #[inline]
    pub fn cover(&self, port: Port) -> bool {
        self.observers.cover(port)
    }

    fn observed(
        &self,
        ObservedCode { pc, by_hypercall }: ObservedCode,
        (direction, size): (Direction, AccessSize),
        port: Port,
        value: Option<u32>,
    ) -> ObservedAccess {
        let is_mixed = self.observers.vcpus_mixed.load(Ordering::Relaxed);
        ObservedAccess {
            port,
            offset: 0,
            direction,
            size,
            value: value.and_then(|value| size.low_bytes(value)),
            may_have_faulted: false,
            by_hypercall,
            vcpu: (!is_mixed).then_some(self.vcpu),
            pc,
            time_ns: (self.observers.clock.now)(),
        }
    }

    /// Passes on a complete access: an element of a string instruction, or one by hypercall.
    pub fn access(
        &self,
        code: ObservedCode,
        access: (Direction, AccessSize),
        port: Port,
        value: u32,
    ) {
        self.observers.see(&self.observed(code, access, port, Some(value)));
    }

    /// Starts an `in` or `out`. `value` is what an `out` writes; `None` for an `in`.
    ///
    /// `may_fault_unreported` is true if it may fault for lack of privilege, and QEMU does not report that.
    pub fn start(
        &self,
        code: ObservedCode,
        access: (Direction, AccessSize),
        port: Port,
        value: Option<u32>,
        may_fault_unreported: bool,
    ) {
        let mut access = self.observed(code, access, port, value);
        access.may_have_faulted = may_fault_unreported;
        // Nothing reported a fault of the previous access, so it counts as retired.
        let previous = lock(&self.pending).replace(access);
        if let Some(previous) = previous {
            self.observers.see(&previous);
        }
    }

    /// Passes on the pending access, which has retired. An `in` has left its value in EAX.
    pub fn retire(&self, eax: impl FnOnce() -> u32) {
        self.note_value(eax);
        self.retire_noted();
    }

    /// Notes EAX as the value of a pending `in`, which may still turn out to have faulted.
    pub fn note_value(&self, eax: impl FnOnce() -> u32) {
        if let Some(access) = &mut *lock(&self.pending) {
            access.value = access.value.or_else(|| access.size.low_bytes(eax()));
        }
    }

    /// Passes on the pending access, which has retired.
    pub fn retire_noted(&self) {
        let retired = lock(&self.pending).take();
        if let Some(access) = retired {
            self.observers.see(&access);
        }
    }

    /// Drops the pending access: it faulted, or a hypervisor intercepted it.
    pub fn discard(&self) {
        *lock(&self.pending) = None;
    }
}
