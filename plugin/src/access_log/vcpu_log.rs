//! The access log's part for one vCPU.
//!
//! An `in` or `out` is pending from its start until it retires or faults. Until then the value that
//! an `in` reads is unknown.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::AccessLog;
use super::record::{Access, Record};
use crate::processes::ProcessReader;
use crate::running_kernel::KernelView;
use crate::stats::SiteId;
use crate::x86::{Direction, InsnForm, Port};

/// The instruction that makes an access.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// Its linear address.
    pub pc: u64,
    /// What pvio knows about it.
    pub kind: CodeKind,
}

/// The facts about an instruction that a record needs.
#[derive(Clone, Copy, Debug)]
pub enum CodeKind {
    /// The site of a port instruction.
    Site(SiteId),
    /// It is a port instruction without a row among the sites.
    Dropped,
    /// It makes a hypercall.
    Call,
    /// It is the code to which the function that makes a hypercall returns.
    CallFrom,
}

/// One vCPU's handle to the log, for use on the vCPU's thread.
pub struct VcpuLog {
    log: Arc<AccessLog>,
    vcpu: u32,
    /// The slot of this handle's pending access.
    place: usize,
    /// `None` if the guest's kernel must not name code.
    kernel: Option<RefCell<KernelView>>,
    /// `None` if lines do not name processes.
    processes: Option<RefCell<ProcessReader>>,
}

impl VcpuLog {
    /// A handle for the vCPU with this index.
    pub fn new(log: Arc<AccessLog>, vcpu: u32) -> VcpuLog {
        let place = log.queue.add_pending();
        let kernel = log.names.kernel().map(|running| RefCell::new(KernelView::new(running)));
        let processes = log.processes.as_ref().map(|finder| RefCell::new(finder.reader()));
        VcpuLog { log, vcpu, place, kernel, processes }
    }

    /// Returns true if accesses to a port may be logged. The other methods decide which are.
    pub fn covers(&self, port: Port, direction: Direction) -> bool {
        self.log.filter.covers_port(port, direction)
    }

    /// Returns true if accesses to a port may ever be logged.
    pub fn may_cover(&self, port: Port, direction: Direction) -> bool {
        self.log.filter.may_cover_port(port, direction)
    }

    /// A record of an access; `None` if the filters do not cover its code or process.
    fn record(&self, code: Code, access: Access, port: Port, value: Option<u32>) -> Option<Record> {
        let mut kernel = self.kernel.as_ref().map(RefCell::borrow_mut);
        let symbol = self.log.names.name(code, kernel.as_deref_mut());
        let name = || self.log.names.text(symbol);
        if !self.log.filter.get().covers_code(code.pc, name) {
            return None;
        }
        let process = self.processes.as_ref().and_then(|reader| {
            let running = reader.borrow_mut().running();
            running.map(|running| running.owner)
        });
        if !self.log.filter.get().covers_process(process.as_ref()) {
            return None;
        }
        let mixed = self.log.vcpus_mixed.load(Ordering::Relaxed);
        Some(Record {
            time: self.log.opened.elapsed(),
            vcpu: (!mixed).then_some(self.vcpu),
            pc: code.pc,
            symbol,
            process,
            direction: access.direction,
            port,
            size: access.size,
            value: value.and_then(|value| access.size.low_bytes(value)),
            unverified: false,
        })
    }

    /// Logs a complete access: an element of a string instruction, or one by hypercall.
    pub fn access(&self, code: Code, access: Access, port: Port, value: u32) {
        if let Some(record) = self.record(code, access, port, Some(value)) {
            self.log.push(record);
        }
    }

    /// Starts an `in` or `out`. `value` is what an `out` writes; `None` for an `in`.
    ///
    /// `unverified` says that it may fault for lack of privilege unreported. Returns whether the access is logged.
    pub fn start(
        &self,
        code: Code,
        form: InsnForm,
        port: Port,
        value: Option<u32>,
        unverified: bool,
    ) -> bool {
        let record = self.record(code, form.into(), port, value);
        let record = record.map(|record| Record { unverified, ..record });
        let is_logged = record.is_some();
        // Nothing reported a fault of the previous access, so it counts as retired.
        if let Some(previous) = self.log.queue.replace_pending(self.place, record) {
            self.log.push(previous);
        }
        is_logged
    }

    /// Logs the pending access, which has retired. An `in` has left its value in EAX.
    pub fn retire(&self, eax: impl FnOnce() -> u32) {
        if let Some(mut record) = self.log.queue.replace_pending(self.place, None) {
            record.value = record.value.or_else(|| record.size.low_bytes(eax()));
            self.log.push(record);
        }
    }

    /// Notes EAX as the value of a pending `in`, which may still turn out to have faulted.
    pub fn note_value(&self, eax: impl FnOnce() -> u32) {
        self.log.queue.change_pending(self.place, |record| {
            record.value = record.value.or_else(|| record.size.low_bytes(eax()));
        });
    }

    /// Logs the pending access, which has retired, with the value that [`VcpuLog::note_value`] noted.
    pub fn retire_noted(&self) {
        if let Some(record) = self.log.queue.replace_pending(self.place, None) {
            self.log.push(record);
        }
    }

    /// Drops the pending access: it faulted or a hypervisor intercepted it.
    pub fn discard(&self) {
        self.log.queue.replace_pending(self.place, None);
    }
}
