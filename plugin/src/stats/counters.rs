//! One vCPU's counters: by form, by port, by site, by site and port, and by hypercall.
//!
//! Only the vCPU's own thread writes to them; any thread may read them at any time. All memory is
//! allocated at the start, so counting allocates nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use pvio_stats::Call;

use super::access_counters::{AccessColumn, AccessCounters};
use super::call::{CallColumn, CallOrigin, Outcome};
use super::call_counters::{CallAccessCounter, CallCounters};
use super::call_sites::{CallSiteId, CallSites};
use super::chains::{StackOwner, VcpuChains};
use super::counter_array::CounterArray;
use super::first_accesses::{FirstAccesses, Source};
use super::instructions::{InstructionCounts, VcpuInstructions};
use super::processes::VcpuProcessCounts;
use super::sites::{FilePlace, MAX_SITES, SiteId, SiteKey, Sites};
use crate::qemu::VcpuIndex;
use crate::x86::{AccessSize, Direction, InsnForm, Port, PortForm, Width};

/// The columns of a form's row of counters.
#[derive(Clone, Copy)]
pub(super) enum FormColumn {
    Attempts,
    Executions,
    Accesses,
    Faults,
    Exits,
    Unverified,
}

/// The columns of the row of a port, direction and size.
#[derive(Clone, Copy)]
pub(super) enum PortColumn {
    /// Accesses by instruction.
    Accesses,
    Unverified,
    /// Accesses by hypercall.
    Hypercall,
}

/// The columns of a site's row of counters.
#[derive(Clone, Copy)]
pub(super) enum SiteColumn {
    Executions,
    Accesses,
    Unverified,
    /// Scalar instructions that started, retired and made their access. Nearly all attempts are of
    /// this kind, so they take one counter: they are not in the other columns, nor among the forms.
    Scalars,
}

/// The row that all sites without a row of their own share.
pub(super) const SITE_DROPPED: usize = MAX_SITES;

/// The counters of one vCPU.
pub struct VcpuCounters {
    pub(super) vcpu: VcpuIndex,
    pub(super) sites: Arc<Sites>,
    pub(super) forms: CounterArray<6>,
    pub(super) ports: CounterArray<3>,
    pub(super) firsts: FirstAccesses,
    pub(super) by_site: CounterArray<4>,
    pub(super) other_ports: AccessCounters,
    pub(super) hypercalls: CounterArray<5>,
    pub(super) by_call_site: CallCounters,
    pub(super) instructions: Option<VcpuInstructions>,
    /// `None` if call chains are not counted.
    pub(super) chains: Option<VcpuChains>,
    /// `None` if processes are not counted.
    pub(super) processes: Option<VcpuProcessCounts>,
    /// The section of the hypercall that is running. Its instruction is not counted yet.
    calls_at: AtomicUsize,
    /// The number of the call site of a control call that is running.
    calls_by: AtomicU32,
}

impl VcpuCounters {
    /// Counters that are all zero.
    pub(super) fn new(
        vcpu: VcpuIndex,
        (sites, call_sites): (Arc<Sites>, Arc<CallSites>),
        instructions: Option<Arc<dyn InstructionCounts>>,
        chains: Option<VcpuChains>,
        processes: Option<VcpuProcessCounts>,
        firsts: FirstAccesses,
    ) -> VcpuCounters {
        VcpuCounters {
            vcpu,
            other_ports: AccessCounters::new(Arc::clone(&sites)),
            sites,
            forms: CounterArray::new(InsnForm::COUNT),
            ports: CounterArray::new(PORT_ROWS),
            firsts,
            by_site: CounterArray::new(MAX_SITES + 1),
            hypercalls: CounterArray::new(Call::ALL.len()),
            by_call_site: CallCounters::new(call_sites),
            instructions: instructions.map(|counts| VcpuInstructions { counts, vcpu }),
            chains,
            processes,
            calls_at: AtomicUsize::new(0),
            calls_by: AtomicU32::new(CallSiteId::DROPPED.0),
        }
    }

    /// The linear address of a site.
    #[inline]
    pub fn address_of(&self, site: SiteId) -> u64 {
        self.sites.address(site)
    }

    /// The site of the same instruction at another address, and place in a file if one is mapped there; `None` if there
    /// is no row for it.
    pub fn alias_of(&self, site: SiteId, pc: u64, place: Option<FilePlace>) -> Option<SiteId> {
        self.sites.enter_alias(site, pc, place)
    }

    /// The counters by process, if processes are counted.
    #[inline]
    pub fn processes(&self) -> Option<&VcpuProcessCounts> {
        self.processes.as_ref()
    }

    /// The address, mode and bytes of a site.
    pub fn key_of(&self, site: SiteId) -> &SiteKey {
        &self.sites.get(site).key
    }

    /// Accesses by call chain, if they are counted.
    #[inline]
    pub fn chains(&self) -> Option<&VcpuChains> {
        self.chains.as_ref()
    }

    /// Counts a scalar instruction that started, retired and made its access.
    #[inline(always)]
    pub fn scalar(&self, form: PortForm, site: SiteId, port: Port) {
        self.by_site.add(site.0 as usize, SiteColumn::Scalars as usize);
        let row = port_row(port, form.direction(), form.width().into());
        self.count_port(row, Some(site), 1);
        self.count_other_port(Some(site), port, 1);
    }

    /// Counts accesses by instruction to a port.
    #[inline]
    fn count_port(&self, row: usize, site: Option<SiteId>, count: u64) {
        let was_zero = || self.firsts.note(row, Source::Site(site));
        self.ports.add_many_or(row, PortColumn::Accesses as usize, count, was_zero);
    }

    /// Takes back one access by instruction to a port.
    fn take_back_port(&self, form: InsnForm, port: Port) {
        let row = row_of(form, port);
        self.ports.take_back(row, PortColumn::Accesses as usize);
        if self.ports.is_zero(row, PortColumn::Accesses as usize) {
            self.firsts.forget(row);
        }
    }

    /// Counts an instruction that started.
    #[inline]
    pub fn attempt(&self, form: impl Into<InsnForm>) {
        let form = form.into();
        self.forms.add(form.index(), FormColumn::Attempts as usize);
    }

    /// Counts an execution: the instruction retired.
    #[inline]
    pub fn executed(&self, form: impl Into<InsnForm>, site: Option<SiteId>) {
        let form = form.into();
        self.forms.add(form.index(), FormColumn::Executions as usize);
        self.by_site.add(site_row(site), SiteColumn::Executions as usize);
    }

    /// Counts an access: the instruction moved one element.
    #[inline]
    pub fn accessed(&self, form: impl Into<InsnForm>, site: Option<SiteId>, port: Port) {
        let form = form.into();
        self.accessed_often(form, site, port, 1);
    }

    /// Counts several accesses of one instruction.
    pub fn accessed_often(
        &self,
        form: impl Into<InsnForm>,
        site: Option<SiteId>,
        port: Port,
        count: u64,
    ) {
        let form = form.into();
        self.forms.add_many(form.index(), FormColumn::Accesses as usize, count);
        self.count_port(row_of(form, port), site, count);
        self.by_site.add_many(site_row(site), SiteColumn::Accesses as usize, count);
        self.count_other_port(site, port, count);
    }

    /// Counts accesses of a site by port, unless the port is the site's first.
    #[inline]
    fn count_other_port(&self, site: Option<SiteId>, port: Port, count: u64) {
        match site {
            Some(site) if self.sites.is_first_port(site, port) => {}
            Some(site) => self.other_ports.add(site, port, AccessColumn::Accesses, count),
            None => self.other_ports.add_without_site(AccessColumn::Accesses, count),
        }
    }

    /// Takes back one [`VcpuCounters::executed`] and, if a port is given, one
    /// [`VcpuCounters::accessed`].
    pub fn not_executed(
        &self,
        form: impl Into<InsnForm>,
        site: Option<SiteId>,
        port: Option<Port>,
    ) {
        let form = form.into();
        self.forms.take_back(form.index(), FormColumn::Executions as usize);
        self.by_site.take_back(site_row(site), SiteColumn::Executions as usize);
        if let Some(port) = port {
            self.forms.take_back(form.index(), FormColumn::Accesses as usize);
            self.take_back_port(form, port);
            self.by_site.take_back(site_row(site), SiteColumn::Accesses as usize);
            self.count_other_port(site, port, 1u64.wrapping_neg());
        }
    }

    /// Counts an attempt that retired or faulted; QEMU does not report which.
    pub fn unverified(&self, form: impl Into<InsnForm>, site: Option<SiteId>, port: Option<Port>) {
        let form = form.into();
        self.forms.add(form.index(), FormColumn::Unverified as usize);
        self.by_site.add(site_row(site), SiteColumn::Unverified as usize);
        if let Some(port) = port {
            let row = row_of(form, port);
            self.ports.add(row, PortColumn::Unverified as usize);
            self.count_unverified(site, port, 1);
        }
    }

    /// Takes back one [`VcpuCounters::unverified`].
    pub fn not_unverified(
        &self,
        form: impl Into<InsnForm>,
        site: Option<SiteId>,
        port: Option<Port>,
    ) {
        let form = form.into();
        self.forms.take_back(form.index(), FormColumn::Unverified as usize);
        self.by_site.take_back(site_row(site), SiteColumn::Unverified as usize);
        if let Some(port) = port {
            let row = row_of(form, port);
            self.ports.take_back(row, PortColumn::Unverified as usize);
            self.count_unverified(site, port, 1u64.wrapping_neg());
        }
    }

    /// Counts unverified accesses of a site by port, also by its first: not every attempt that is
    /// unverified has a port, so that the rest would not be those of the first.
    fn count_unverified(&self, site: Option<SiteId>, port: Port, count: u64) {
        match site {
            Some(site) => self.other_ports.add(site, port, AccessColumn::Unverified, count),
            None => self.other_ports.add_without_site(AccessColumn::Unverified, count),
        }
    }

    /// Counts an attempt that a hypervisor in the guest intercepted.
    pub fn exit(&self, form: impl Into<InsnForm>) {
        let form = form.into();
        self.forms.add(form.index(), FormColumn::Exits as usize);
    }

    /// Counts an attempt that ended by a fault.
    pub fn fault(&self, form: impl Into<InsnForm>) {
        let form = form.into();
        self.forms.add(form.index(), FormColumn::Faults as usize);
    }

    /// Takes back one [`VcpuCounters::fault`]: the guest handled it and resumed the instruction.
    pub fn fault_resumed(&self, form: impl Into<InsnForm>) {
        let form = form.into();
        self.forms.take_back(form.index(), FormColumn::Faults as usize);
    }

    /// The number of kernels that ran before the one that runs.
    #[inline]
    pub fn boot(&self) -> u32 {
        self.sites.boot()
    }

    /// Finds the counter of calls of one element from a site to a port. `None` if there is no room for it.
    pub fn call_access_counter(
        &self,
        site: CallSiteId,
        call: Call,
        port: Port,
    ) -> Option<CallAccessCounter> {
        self.by_call_site.counter(site, call, port)
    }

    /// Counts a hypercall that succeeded and moved one element, where only counters want to know.
    #[inline]
    pub fn hypercall_moved_one(&self, port: PortCounter, by_site: CallAccessCounter) {
        self.count_port_of_calls(port.0, 1);
        self.by_call_site.moved_one(by_site);
    }

    /// Counts the elements that a hypercall moved. It is counted by [`VcpuCounters::hypercalls`] when it ends, unless it
    /// `completes`: then it moved one element and succeeded.
    pub fn hypercall_moved(
        &self,
        origin: &CallOrigin,
        call: Call,
        port: Port,
        elements: u64,
        completes: bool,
    ) {
        let Some((direction, width)) = call.port_io() else { return };
        let counter = self.by_call_site.counter(origin.site, call, port);
        match counter.filter(|_| completes) {
            Some(counter) => self.by_call_site.moved_one(counter),
            None => {
                if completes {
                    self.hypercalls(origin.site, call, Outcome::Ok, 1);
                }
                let bytes = elements * u64::from(width.bytes());
                self.hypercalls.add_many(call.index(), CallColumn::Bytes as usize, bytes);
                self.by_call_site.moved(origin.site, call, port, elements);
            }
        }
        self.count_port_of_calls(port_row(port, direction, width.into()), elements);
        if let Some(chains) = &self.chains {
            let owner = origin.site.row().map(StackOwner::Call);
            chains.accessed(owner, origin.caller, elements);
        }
        if let Some((processes, process)) = self.processes.as_ref().zip(origin.process) {
            processes.accessed_by_hypercall(process, elements);
        }
    }

    /// Counts hypercalls and their outcome.
    #[inline]
    pub fn hypercalls(&self, site: CallSiteId, call: Call, outcome: Outcome, count: u64) {
        self.hypercalls.add_many(call.index(), CallColumn::Count as usize, count);
        self.by_call_site.ended(site, call, count);
        let column = match outcome {
            Outcome::Ok => return,
            Outcome::Declined => CallColumn::Declined,
            Outcome::Denied => CallColumn::Denied,
            Outcome::Error => CallColumn::Errors,
        };
        self.hypercalls.add_many(call.index(), column as usize, count);
    }

    /// All accesses by hypercall, and those by instruction that [`VcpuCounters::scalar`] does not count.
    pub(super) fn accesses(&self) -> i64 {
        let by_form = self.forms.rows().map(|(_, counts)| counts[FormColumn::Accesses as usize]);
        by_form.sum::<i64>() + self.by_call_site.accesses()
    }

    /// Notes the address of the hypercall that is about to run.
    #[inline]
    pub fn calls_from(&self, pc: u64) {
        if let Some(instructions) = &self.instructions {
            let place = instructions.counts.sections().place(pc);
            // Relaxed: the thread that stores it is the one that reads it.
            self.calls_at.store(place, Ordering::Relaxed);
        }
    }

    /// Returns the section of the hypercall that is running.
    pub(super) fn calls_at(&self) -> usize {
        self.calls_at.load(Ordering::Relaxed)
    }

    /// Notes the site of the control call that is about to run.
    pub fn calls_by(&self, site: CallSiteId) {
        // Relaxed: as in `calls_from`.
        self.calls_by.store(site.0, Ordering::Relaxed);
    }

    /// Returns the site of the control call that is running.
    pub(super) fn call_site(&self) -> CallSiteId {
        CallSiteId(self.calls_by.load(Ordering::Relaxed))
    }

    /// Counts the bytes that a hypercall moved between guest and host, other than those of accesses.
    pub fn hypercall_moved_bytes(&self, site: CallSiteId, call: Call, bytes: u64) {
        self.hypercalls.add_many(call.index(), CallColumn::Bytes as usize, bytes);
        self.by_call_site.moved_bytes(site, call, bytes);
    }

    #[inline]
    fn count_port_of_calls(&self, row: usize, count: u64) {
        let was_zero = || self.firsts.note(row, Source::Hypercall);
        self.ports.add_many_or(row, PortColumn::Hypercall as usize, count, was_zero);
    }
}

/// The row of counters of a port, direction and size, computed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortCounter(usize);

impl PortCounter {
    /// The row of this port, direction and size.
    pub fn new(port: Port, direction: Direction, width: Width) -> PortCounter {
        PortCounter(port_row(port, direction, width.into()))
    }
}

fn site_row(site: Option<SiteId>) -> usize {
    site.map_or(SITE_DROPPED, |site| site.0 as usize)
}

/// The number of rows: every port, in each direction, at each size.
pub(super) const PORT_ROWS: usize = 0x1_0000 * 2 * AccessSize::COUNT;

#[inline]
pub(super) fn port_row(port: Port, direction: Direction, size: AccessSize) -> usize {
    (usize::from(port.0) * 2 + direction as usize) * AccessSize::COUNT + size.index()
}

fn row_of(form: InsnForm, port: Port) -> usize {
    port_row(port, form.direction(), form.size())
}

/// The port, direction and size of a row.
pub(super) fn port_of_row(row: usize) -> (Port, Direction, AccessSize) {
    let size = AccessSize::from_index(row % AccessSize::COUNT);
    let port_and_direction = row / AccessSize::COUNT;
    let direction = [Direction::In, Direction::Out][port_and_direction % 2];
    (Port((port_and_direction / 2) as u16), direction, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_row_is_decoded() {
        for row in 0..PORT_ROWS {
            let (port, direction, size) = port_of_row(row);
            assert_eq!(port_row(port, direction, size), row);
        }
    }
}
