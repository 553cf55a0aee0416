//! What one vCPU logs.
//!
//! An `in` or `out` is pending from its start until it retires or faults. Until then the value that
//! an `in` reads is unknown.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::AccessLog;
use super::record::{Access, Record};
use crate::x86::{Port, PortForm, Width};

/// One vCPU's handle to the log, for use on the vCPU's thread.
pub struct VcpuLog {
    log: Arc<AccessLog>,
    vcpu: u32,
    /// The index of this handle's pending access in the log.
    index: usize,
}

impl VcpuLog {
    /// A handle for the vCPU with this index.
    pub fn new(log: Arc<AccessLog>, vcpu: u32) -> VcpuLog {
        let mut state = log.lock();
        let index = state.pending.len();
        state.pending.push(None);
        drop(state);
        VcpuLog { log, vcpu, index }
    }

    /// Whether accesses to a port are logged.
    pub fn covers(&self, port: Port) -> bool {
        self.log.filter.covers(port)
    }

    fn record(&self, pc: u64, access: Access, port: Port, value: Option<u32>) -> Record {
        let mixed = self.log.vcpus_mixed.load(Ordering::Relaxed);
        Record {
            time: self.log.opened.elapsed(),
            vcpu: (!mixed).then_some(self.vcpu),
            pc,
            direction: access.direction,
            port,
            width: access.width,
            value: value.map(|value| low_bytes(value, access.width)),
            unverified: false,
        }
    }

    /// Logs a complete access: an element of a string instruction, or one by hypercall.
    ///
    /// `pc` is the linear address of the instruction.
    pub fn access(&self, pc: u64, access: Access, port: Port, value: u32) {
        let record = self.record(pc, access, port, Some(value));
        self.log.push(&mut self.log.lock(), record);
    }

    /// Starts an `in` or `out`. `value` is what an `out` writes; `None` for an `in`.
    ///
    /// `unverified` says that it may fault for lack of privilege unreported.
    pub fn start(&self, pc: u64, form: PortForm, port: Port, value: Option<u32>, unverified: bool) {
        let record = Record { unverified, ..self.record(pc, form.into(), port, value) };
        let mut state = self.log.lock();
        // Nothing reported a fault of the previous access, so it counts as retired.
        if let Some(previous) = state.pending[self.index].replace(record) {
            self.log.push(&mut state, previous);
        }
    }

    /// Logs the pending access, which has retired. An `in` has left its value in EAX.
    pub fn retire(&self, eax: impl FnOnce() -> u32) {
        let mut state = self.log.lock();
        if let Some(mut record) = state.pending[self.index].take() {
            record.value.get_or_insert_with(|| low_bytes(eax(), record.width));
            self.log.push(&mut state, record);
        }
    }

    /// Notes EAX as the value of a pending `in`, which may still turn out to have faulted.
    pub fn note_value(&self, eax: impl FnOnce() -> u32) {
        if let Some(record) = &mut self.log.lock().pending[self.index] {
            record.value.get_or_insert_with(|| low_bytes(eax(), record.width));
        }
    }

    /// Logs the pending access, which has retired, with the value that [`VcpuLog::note_value`] noted.
    pub fn retire_noted(&self) {
        let mut state = self.log.lock();
        if let Some(record) = state.pending[self.index].take() {
            self.log.push(&mut state, record);
        }
    }

    /// Drops the pending access: it faulted or a hypervisor intercepted it.
    pub fn discard(&self) {
        self.log.lock().pending[self.index] = None;
    }
}

fn low_bytes(value: u32, width: Width) -> u32 {
    let unused = 32 - 8 * u32::from(width.bytes());
    value << unused >> unused
}
