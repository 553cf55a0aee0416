//! One vCPU's counters: by form, by port, by site and by hypercall.
//!
//! Only the vCPU's own thread adds to them; any thread may read them at any time. They are laid out
//! in full at the start, so that counting allocates nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Call;
use super::call::{CallColumn, Outcome};
use super::counter_array::CounterArray;
use super::instructions::{InstructionCounts, VcpuInstructions};
use super::sites::{MAX_SITES, SiteId, SiteKey, Sites};
use crate::qemu::VcpuIndex;
use crate::x86::{Direction, Port, PortForm, Width};

/// What is counted of a form, and the columns of its row.
#[derive(Clone, Copy)]
pub(super) enum FormColumn {
    Attempts,
    Executions,
    Accesses,
    Faults,
    Exits,
    Unverified,
}

/// What is counted of a port, direction and size.
#[derive(Clone, Copy)]
pub(super) enum PortColumn {
    /// By instruction.
    Accesses,
    Unverified,
    /// By hypercall.
    Hypercall,
}

/// What is counted of a site.
#[derive(Clone, Copy)]
pub(super) enum SiteColumn {
    Executions,
    Accesses,
    Unverified,
    /// Attempts at scalars that retired and made their access: nearly all there are, which are counted
    /// in one place. They are in none of the others, nor in the forms' table.
    Scalars,
}

/// The row for all sites that have none of their own.
pub(super) const SITE_DROPPED: usize = MAX_SITES;

/// What one vCPU has done.
pub struct VcpuCounters {
    pub(super) vcpu: VcpuIndex,
    pub(super) sites: Arc<Sites>,
    pub(super) forms: CounterArray<6>,
    pub(super) ports: CounterArray<3>,
    pub(super) by_site: CounterArray<4>,
    pub(super) hypercalls: CounterArray<6>,
    pub(super) instructions: Option<VcpuInstructions>,
    /// The place of the hypercall that is being made: an instruction that has yet to be counted.
    calls_at: AtomicUsize,
}

impl VcpuCounters {
    /// All zero.
    pub(super) fn new(
        vcpu: VcpuIndex,
        sites: Arc<Sites>,
        instructions: Option<Arc<dyn InstructionCounts>>,
    ) -> VcpuCounters {
        VcpuCounters {
            vcpu,
            sites,
            forms: CounterArray::new(PortForm::ALL.len()),
            ports: CounterArray::new(PORT_ROWS),
            by_site: CounterArray::new(MAX_SITES + 1),
            hypercalls: CounterArray::new(Call::ALL.len()),
            instructions: instructions.map(|counts| VcpuInstructions { counts, vcpu }),
            calls_at: AtomicUsize::new(0),
        }
    }

    /// The linear address of a site.
    #[inline]
    pub fn address_of(&self, site: SiteId) -> u64 {
        self.sites.address(site)
    }

    /// The site of the same instruction at another address; `None` where it has no row.
    pub fn alias_of(&self, site: SiteId, pc: u64) -> Option<SiteId> {
        self.sites.enter_alias(site, pc)
    }

    /// What makes a site.
    pub fn key_of(&self, site: SiteId) -> &SiteKey {
        &self.sites.get(site).key
    }

    /// A scalar at a site with a row started, retired, and made its access.
    #[inline]
    pub fn scalar(&self, form: PortForm, site: SiteId, port: Port) {
        self.by_site.add(site.0 as usize, SiteColumn::Scalars as usize);
        let row = port_row(port, form.direction(), form.width());
        self.ports.add(row, PortColumn::Accesses as usize);
    }

    /// An instruction started.
    #[inline]
    pub fn attempt(&self, form: PortForm) {
        self.forms.add(form.index(), FormColumn::Attempts as usize);
    }

    /// It retired.
    #[inline]
    pub fn executed(&self, form: PortForm, site: Option<SiteId>) {
        self.forms.add(form.index(), FormColumn::Executions as usize);
        self.by_site.add(site_row(site), SiteColumn::Executions as usize);
    }

    /// It moved one element to or from a port.
    #[inline]
    pub fn accessed(&self, form: PortForm, site: Option<SiteId>, port: Port) {
        self.forms.add(form.index(), FormColumn::Accesses as usize);
        let row = port_row(port, form.direction(), form.width());
        self.ports.add(row, PortColumn::Accesses as usize);
        self.by_site.add(site_row(site), SiteColumn::Accesses as usize);
    }

    /// It moved so many elements.
    pub fn accessed_often(&self, form: PortForm, site: Option<SiteId>, port: Port, count: u64) {
        self.forms.add_many(form.index(), FormColumn::Accesses as usize, count);
        let row = port_row(port, form.direction(), form.width());
        self.ports.add_many(row, PortColumn::Accesses as usize, count);
        self.by_site.add_many(site_row(site), SiteColumn::Accesses as usize, count);
    }

    /// Takes back what [`VcpuCounters::executed`] and, given a port, [`VcpuCounters::accessed`] counted.
    pub fn not_executed(&self, form: PortForm, site: Option<SiteId>, port: Option<Port>) {
        self.forms.take_back(form.index(), FormColumn::Executions as usize);
        self.by_site.take_back(site_row(site), SiteColumn::Executions as usize);
        if let Some(port) = port {
            let row = port_row(port, form.direction(), form.width());
            self.forms.take_back(form.index(), FormColumn::Accesses as usize);
            self.ports.take_back(row, PortColumn::Accesses as usize);
            self.by_site.take_back(site_row(site), SiteColumn::Accesses as usize);
        }
    }

    /// It retired or faulted, and cannot be known which.
    pub fn unverified(&self, form: PortForm, site: Option<SiteId>, port: Option<Port>) {
        self.forms.add(form.index(), FormColumn::Unverified as usize);
        self.by_site.add(site_row(site), SiteColumn::Unverified as usize);
        if let Some(port) = port {
            let row = port_row(port, form.direction(), form.width());
            self.ports.add(row, PortColumn::Unverified as usize);
        }
    }

    /// Takes back what [`VcpuCounters::unverified`] counted.
    pub fn not_unverified(&self, form: PortForm, site: Option<SiteId>, port: Option<Port>) {
        self.forms.take_back(form.index(), FormColumn::Unverified as usize);
        self.by_site.take_back(site_row(site), SiteColumn::Unverified as usize);
        if let Some(port) = port {
            let row = port_row(port, form.direction(), form.width());
            self.ports.take_back(row, PortColumn::Unverified as usize);
        }
    }

    /// A hypervisor in the guest had it intercepted.
    pub fn exit(&self, form: PortForm) {
        self.forms.add(form.index(), FormColumn::Exits as usize);
    }

    /// It ended by a fault.
    pub fn fault(&self, form: PortForm) {
        self.forms.add(form.index(), FormColumn::Faults as usize);
    }

    /// The fault was handled, and the instruction goes on.
    pub fn fault_resumed(&self, form: PortForm) {
        self.forms.take_back(form.index(), FormColumn::Faults as usize);
    }

    /// Several hypercalls were made, all of which went well.
    pub fn hypercalls(&self, call: Call, count: u64) {
        self.hypercalls.add_many(call.index(), CallColumn::Count as usize, count);
    }

    /// A hypercall was made that went well, and moved one element.
    #[inline]
    pub fn hypercall_moved_one(&self, call: Call) {
        self.hypercalls.add(call.index(), CallColumn::MovedOne as usize);
    }

    /// A hypercall was made, and this is how it went.
    #[inline]
    pub fn hypercall(&self, call: Call, outcome: Outcome) {
        self.hypercalls.add(call.index(), CallColumn::Count as usize);
        let column = match outcome {
            Outcome::Ok => return,
            Outcome::Declined => CallColumn::Declined,
            Outcome::Denied => CallColumn::Denied,
            Outcome::Error => CallColumn::Errors,
        };
        self.hypercalls.add(call.index(), column as usize);
    }

    /// A hypercall is being made, by the instruction at an address.
    #[inline]
    pub fn calls_from(&self, pc: u64) {
        if let Some(instructions) = &self.instructions {
            let place = instructions.counts.sections().place(pc);
            self.calls_at.store(place, Ordering::Relaxed);
        }
    }

    /// The place of that instruction.
    pub(super) fn calls_at(&self) -> usize {
        self.calls_at.load(Ordering::Relaxed)
    }

    /// It moved bytes between the guest and the host.
    #[inline]
    pub fn hypercall_moved(&self, call: Call, bytes: u64) {
        self.hypercalls.add_many(call.index(), CallColumn::Bytes as usize, bytes);
    }

    /// It made one access to a port.
    #[inline]
    pub fn hypercall_access(&self, port: PortCounter) {
        self.ports.add(port.0, PortColumn::Hypercall as usize);
    }

    /// It made accesses to a port.
    #[inline]
    pub fn hypercall_accesses(&self, port: Port, direction: Direction, width: Width, count: u64) {
        let row = port_row(port, direction, width);
        self.ports.add_many(row, PortColumn::Hypercall as usize, count);
    }
}

/// Where accesses to a port of a direction and size are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortCounter(usize);

impl PortCounter {
    /// Of one port.
    pub fn new(port: Port, direction: Direction, width: Width) -> PortCounter {
        PortCounter(port_row(port, direction, width))
    }
}

fn site_row(site: Option<SiteId>) -> usize {
    site.map_or(SITE_DROPPED, |site| site.0 as usize)
}

/// Every port, in each direction, at each width.
pub(super) const PORT_ROWS: usize = 0x1_0000 * 2 * Width::ALL.len();

fn port_row(port: Port, direction: Direction, width: Width) -> usize {
    (usize::from(port.0) * 2 + direction as usize) * Width::ALL.len() + width as usize
}

/// What a row of the port table is about.
pub(super) fn port_of_row(row: usize) -> (Port, Direction, Width) {
    let width = Width::ALL[row % Width::ALL.len()];
    let port_and_direction = row / Width::ALL.len();
    let direction = [Direction::In, Direction::Out][port_and_direction % 2];
    (Port((port_and_direction / 2) as u16), direction, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_row_is_found_again() {
        for row in 0..PORT_ROWS {
            let (port, direction, width) = port_of_row(row);
            assert_eq!(port_row(port, direction, width), row);
        }
    }
}
