//! Checks one vCPU's accesses against the breakpoints.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::hit::Hit;
use super::{Breakpoints, SetBreakpoint, caller};
use crate::access_log::{Access, Code, CodeKind};
use crate::processes::ProcessReader;
use crate::qemu::BetweenBlocks;
use crate::running_kernel::KernelView;
use crate::x86::{Direction, InsnForm, Port};

/// One vCPU's handle to the breakpoints, for use on the vCPU's thread.
pub struct VcpuBreaks {
    shared: Arc<Breakpoints>,
    vcpu: u32,
    known: RefCell<Known>,
    /// `None` if the guest's kernel is not to name code.
    kernel: Option<RefCell<KernelView>>,
    /// `None` if processes cannot be told.
    processes: Option<RefCell<ProcessReader>>,
    state: Arc<State>,
}

/// The list as this vCPU knows it.
#[derive(Default)]
struct Known {
    generation: u64,
    set: Arc<[Arc<SetBreakpoint>]>,
}

/// The state that the work after an instruction shares with the vCPU. The same thread uses both.
#[derive(Default)]
struct State {
    /// The number of the scalar that started last; raised when it turns out that it made no access.
    ticket: AtomicU64,
    /// The machine stops after the instruction that runs.
    stops: AtomicBool,
}

/// An access that a breakpoint may want, as far as it is known.
struct Candidate {
    shared: Arc<Breakpoints>,
    wanted_by: Vec<Arc<SetBreakpoint>>,
    /// The site that a hypercall states.
    stated_site: Option<u64>,
    hit: Hit,
}

impl Candidate {
    /// Counts the access. Returns the first breakpoint that stops at it.
    fn count(&mut self) -> bool {
        let mut stops = false;
        for set in &self.wanted_by {
            let hits = set.hits.fetch_add(1, Ordering::Relaxed) + 1;
            if hits >= set.breakpoint.count() && !stops {
                (self.hit.number, self.hit.hits) = (set.number, hits);
                stops = true;
            }
        }
        stops
    }

    fn stop(mut self, vcpu: &BetweenBlocks) {
        self.hit.next_pc = vcpu.pc();
        let ram = self.shared.ram.as_ref();
        self.hit.caller =
            ram.and_then(|ram| caller::find(vcpu, ram, &self.shared.names, self.stated_site));
        self.shared.tell(&self.hit);
        vcpu.stop();
    }
}

impl VcpuBreaks {
    /// A handle for the vCPU with this index.
    pub fn new(shared: Arc<Breakpoints>, vcpu: u32) -> VcpuBreaks {
        let kernel = shared.names.kernel().map(|running| RefCell::new(KernelView::new(running)));
        let processes = shared.processes.as_ref().map(|finder| RefCell::new(finder.reader()));
        let (known, state) = (RefCell::default(), Arc::default());
        VcpuBreaks { shared, vcpu, known, kernel, processes, state }
    }

    /// Returns true if there are breakpoints.
    #[inline]
    pub fn are_any(&self) -> bool {
        self.shared.is_any.load(Ordering::Relaxed)
    }

    /// Returns true if a breakpoint may be at an access to a port.
    pub fn cover(&self, port: Port, direction: Direction) -> bool {
        let covers =
            |set: &Arc<SetBreakpoint>| set.breakpoint.filter().covers_port(port, direction);
        self.are_any() && self.with_set(|set| set.iter().any(covers))
    }

    fn covering(&self, port: Port, direction: Direction) -> Vec<Arc<SetBreakpoint>> {
        let covers =
            |set: &&Arc<SetBreakpoint>| set.breakpoint.filter().covers_port(port, direction);
        self.with_set(|set| set.iter().filter(covers).cloned().collect())
    }

    fn with_set<R>(&self, work: impl FnOnce(&[Arc<SetBreakpoint>]) -> R) -> R {
        let mut known = self.known.borrow_mut();
        let generation = self.shared.generation.load(Ordering::Acquire);
        if known.generation != generation {
            let set = Arc::clone(&self.shared.lock().set);
            *known = Known { generation, set };
        }
        work(&known.set)
    }

    /// Describes an access before it is made; `None` if it meets no breakpoint's conditions.
    fn candidate(
        &self,
        code: Code,
        access: Access,
        port: Port,
        value: Option<u32>,
    ) -> Option<Candidate> {
        let mut wanted_by = self.covering(port, access.direction);
        if let Some(value) = value {
            let value = access.size.low_bytes(value);
            wanted_by.retain(|set| set.breakpoint.filter().covers_value(value));
        }
        wanted_by.first()?;
        let mut kernel = self.kernel.as_ref().map(RefCell::borrow_mut);
        let symbol = self.shared.names.name_of(code, kernel.as_deref_mut());
        let symbol = symbol.map(str::to_owned);
        wanted_by.retain(|set| set.breakpoint.filter().covers_code(code.pc, || symbol.as_deref()));
        wanted_by.first()?;
        let process = self.processes.as_ref().and_then(|reader| reader.borrow_mut().running());
        let process = process.map(|running| running.owner);
        wanted_by.retain(|set| set.breakpoint.filter().covers_process(process.as_ref()));
        wanted_by.first()?;
        let hit = Hit {
            number: 0,
            hits: 0,
            vcpu: (!self.shared.vcpus_mixed.load(Ordering::Relaxed)).then_some(self.vcpu),
            pc: code.pc,
            next_pc: 0,
            symbol,
            caller: None,
            process: process.map(|owner| owner.to_string()),
            access,
            port,
            value: value.and_then(|value| access.size.low_bytes(value)),
            by_call: matches!(code.kind, CodeKind::Call | CodeKind::CallFrom),
        };
        let stated_site = matches!(code.kind, CodeKind::CallFrom).then_some(code.pc);
        Some(Candidate { shared: Arc::clone(&self.shared), wanted_by, stated_site, hit })
    }

    /// A complete access: an element of a string instruction, or one by hypercall. The machine stops after the
    /// instruction, which may make more.
    pub fn access(&self, code: Code, access: Access, port: Port, value: u32) {
        let Some(mut candidate) = self.candidate(code, access, port, Some(value)) else { return };
        if !candidate.count() || self.state.stops.swap(true, Ordering::Relaxed) {
            return;
        }
        let state = Arc::clone(&self.state);
        self.shared.after.ask(move |vcpu| {
            state.stops.store(false, Ordering::Relaxed);
            candidate.stop(vcpu);
        });
    }

    /// The start of an `in` or `out`. `value` is what an `out` writes; `None` for an `in`.
    ///
    /// `may_fault_unreported` is true if it may fault for lack of privilege, and QEMU does not report that.
    pub fn start(
        &self,
        code: Code,
        form: InsnForm,
        port: Port,
        value: Option<u32>,
        may_fault_unreported: bool,
    ) {
        let ticket = self.state.ticket.fetch_add(1, Ordering::Relaxed) + 1;
        let access = Access::from(form);
        let Some(mut candidate) = self.candidate(code, access, port, value) else { return };
        let len = match code.kind {
            CodeKind::Site(site) => Some(self.shared.sites.get(site).key.bytes.len() as u64),
            CodeKind::Dropped | CodeKind::Call | CodeKind::CallFrom => None,
        };
        let may_fault_unreported = may_fault_unreported && !self.shared.reports_exceptions;
        let state = Arc::clone(&self.state);
        self.shared.after.ask(move |vcpu| {
            if state.ticket.load(Ordering::Relaxed) != ticket {
                return;
            }
            let is_after = len.is_none_or(|len| vcpu.pc() == code.pc.wrapping_add(len));
            if !is_after && (may_fault_unreported || vcpu.is_in_nested_guest()) {
                return;
            }
            if value.is_none() {
                let value = access.size.low_bytes(vcpu.eax());
                candidate.hit.value = value;
                candidate.wanted_by.retain(|set| set.breakpoint.filter().covers_value(value));
            }
            if candidate.count() {
                candidate.stop(vcpu);
            }
        });
    }

    /// The last scalar faulted, or a hypervisor intercepted it.
    pub fn discard(&self) {
        self.state.ticket.fetch_add(1, Ordering::Relaxed);
    }
}
