//! The guest's hypercalls: the implementation of [`pvio_guest::abi`].
//!
//! This module knows the calls, who may make them and what they return. It does not know how the
//! instruction was caught. A call reaches every port: pvio's devices directly, QEMU's through QEMU's
//! bus. It reaches memory through the caller's page tables, with the caller's privilege.

mod arguments;
mod batch;
mod call_cache;
mod call_sites;
mod caller;
mod caller_pages;
mod compact_batch;
mod control;
mod epoch;
mod files;
mod guest_log;
mod machine_control;
mod mailbox;
mod memory;
mod port_io;
mod recorder;
mod records;
mod refusal;
mod vcpu_calls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pvio_guest::abi::feature;

use crate::bus::{CachedPort, PortBus, PortTarget};
use crate::guest_memory::RamAccess;
use crate::kernel_boots::KernelBoots;
use crate::qemu::{Machine, ProvenRam};
use crate::share::Share;
use crate::stats::Statistics;
use crate::x86::Port;

pub use caller::{Caller, Magic};
pub use epoch::MailboxEpoch;
pub use guest_log::GuestLog;
pub use machine_control::{DumpError, MachineControl};
pub use vcpu_calls::{FindCaller, VcpuCalls};

use refusal::Refusal;

/// The features of a host that has access to the guest's memory.
const WITH_MEMORY: u32 =
    feature::MEMORY | feature::MAILBOX | feature::LARGE_MAILBOX | feature::COMPACT_BATCH;

/// The rings that may make hypercalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Supervisor code.
    Kernel,
    /// Code of any ring.
    Any,
}

/// The state that the calls of all vCPUs share.
pub struct Hypercalls {
    /// The callers that may make hypercalls.
    pub policy: Policy,
    /// The port bus.
    pub bus: Arc<PortBus>,
    /// `None` if QEMU does not export what pvio needs.
    pub machine: Option<Arc<Machine>>,
    /// The memory that calls reach without `machine`; `None` if they reach none.
    pub proven_ram: Option<Arc<ProvenRam>>,
    /// True if QEMU runs with `-icount`. Then it aborts if a device reads a clock or raises an
    /// interrupt in the middle of a block, and a call is in the middle of a block.
    pub icount: bool,
    /// Windows and counts.
    pub statistics: Arc<Statistics>,
    /// Tracks which kernel runs; `None` if names need no kernel.
    pub kernels: Option<Arc<KernelBoots>>,
    /// Dumps the statistics and ends the machine.
    pub control: Box<dyn MachineControl>,
    /// The guest's log.
    pub log: GuestLog,
    /// The directory that the guest shares; `None` if it shares none.
    pub share: Option<Arc<Share>>,
    /// Set by [`Hypercalls::expect_nested_guests`].
    pub nested_guests: AtomicBool,
    /// The epoch of valid mailboxes.
    pub epoch: MailboxEpoch,
}

impl Hypercalls {
    /// Notes that the guest may run nested guests. From now on, a call is declined if it is not known
    /// whether it comes from a nested guest.
    pub fn expect_nested_guests(&self) {
        // Relaxed: VMRUN is translated before it runs, and its own vCPU is the one that may become nested.
        self.nested_guests.store(true, Ordering::Relaxed);
    }

    /// Disables mailboxes permanently, because QEMU's callbacks name the wrong vCPU.
    pub fn vcpus_are_mixed(&self) {
        self.epoch.end();
    }

    /// The device that serves a port; `None` if a call may not reach it.
    #[inline]
    fn target(&self, port: Port) -> Option<PortTarget<'_>> {
        self.bus.target(port).filter(|target| !self.icount || target.is_independent())
    }

    /// Like [`Hypercalls::target`], for a port that is used often.
    fn cached_port(&self, port: Port) -> Option<CachedPort> {
        self.target(port).and_then(|_| self.bus.cached_port(port))
    }

    fn ram(&self) -> Option<RamAccess<'_>> {
        match self.machine.as_ref().and_then(|machine| machine.ram()) {
            Some(ram) => Some(RamAccess::InPlace(ram.as_ref())),
            None => self.proven_ram.as_deref().map(RamAccess::Proven),
        }
    }

    fn features(&self) -> u32 {
        let every_port = self.machine.is_some() && !self.icount;
        // Of proven RAM, each call tells whether it suffices.
        let memory = matches!(self.ram(), Some(RamAccess::InPlace(_)));
        (if every_port { feature::EVERY_PORT } else { 0 })
            | (if memory { WITH_MEMORY } else { 0 })
            | (if self.share.is_some() { feature::FILES } else { 0 })
    }
}
