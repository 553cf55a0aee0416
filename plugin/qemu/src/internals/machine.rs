//! The machine, through QEMU's exported functions: its port bus, memory, interrupt lines, resets, and its
//! end.
//!
//! None of this is a stable interface. pvio uses it on the versions whose declarations were compared
//! with [`super::symbols`], and tests the port bus before anything relies on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::below::{BelowWatch, PortsBelow};
use super::bottom_half::BottomHalf;
use super::error::MachineError;
use super::global_lock::GlobalLock;
use super::hidden_regions::HiddenRegion;
use super::io_region::{Locking, PortHandler};
use super::irq::{IsaIrq, IsaIrqs};
use super::migration_blocker::MigrationBlocker;
use super::port_bus::PortBus;
use super::port_presence::RegionFinder;
use super::ram::GuestRam;
use super::symbols::{
    BottomHalfCreation, BottomHalfRequest, ErrorFunctions, IoRoot, IrqFunctions, IsaLines,
    LockFunctions, LocklessIo, MigrationBlockers, ObjectQuery, PortFunctions, RegionFunctions,
    ResetFunctions, ShutdownRequest,
};
use crate::version::QemuVersion;

/// The machine that QEMU emulates.
pub struct Machine {
    lock: GlobalLock,
    bus: PortBus,
    finder: Option<RegionFinder>,
    /// Unset until something asks for QEMU's devices under the plugin's.
    below: OnceLock<&'static BelowWatch>,
    ports: PortFunctions,
    ram: Option<Arc<GuestRam>>,
    irqs: IsaIrqs,
    resets: ResetFunctions,
    shutdown: ShutdownRequest,
    /// True if an exit was requested since the last reset.
    is_ending: Arc<AtomicBool>,
    blocker: MigrationBlocker,
}

impl Machine {
    /// Opens the machine, and tests its port bus.
    ///
    /// Call it on QEMU's main thread while the machine is built, as in `qemu_plugin_install`.
    ///
    /// # Errors
    ///
    /// If QEMU does not export what is needed, if its version is not a known one, or if accesses do not
    /// arrive as they were made.
    pub fn open(version: Option<QemuVersion>) -> Result<Machine, MachineError> {
        let version = match version {
            Some(version) => version,
            None => QemuVersion::ask()?,
        };
        if !version.is_known() {
            return Err(MachineError::UnknownVersion(version));
        }
        let lockless = LocklessIo::find().ok();
        let machine = Machine {
            bus: PortBus::new(IoRoot::find()?, RegionFunctions::find()?, lockless),
            finder: RegionFinder::find().ok(),
            below: OnceLock::new(),
            ports: PortFunctions::find()?,
            ram: GuestRam::open(Some(version)).map(Arc::new),
            lock: GlobalLock::new(LockFunctions::find()?),
            resets: ResetFunctions::find()?,
            shutdown: ShutdownRequest::find()?,
            is_ending: Arc::default(),
            irqs: IsaIrqs::new(ObjectQuery::find()?, IsaLines::find()?, IrqFunctions::find()?),
            blocker: MigrationBlocker::new(ErrorFunctions::find()?, MigrationBlockers::find()?),
        };
        machine.bus.try_out(&machine.lock, &machine.ports)?;
        let is_ending = Arc::clone(&machine.is_ending);
        // Relaxed, here and in `exit`: the flag publishes nothing.
        machine.on_reset(move || is_ending.store(false, Ordering::Relaxed));
        Ok(machine)
    }

    /// Lets `handler` serve `count` ports from `first` on, until QEMU ends.
    ///
    /// It hides what QEMU has at these ports.
    ///
    /// An access goes whole to the region that contains its first port, whatever its alignment, **even
    /// if it goes beyond the region's end**.
    ///
    /// # Panics
    ///
    /// If `count` is 0, if the range leaves the I/O space of 65,536 ports, or if this thread does not hold
    /// QEMU's global lock, as the main thread does while the machine is built.
    pub fn serve(
        &self,
        first: u16,
        count: u32,
        name: &str,
        locking: Locking,
        handler: Box<dyn PortHandler>,
    ) {
        self.bus.add(&self.lock, first, count, name, locking, handler);
    }

    /// Reads `size` (1, 2 or 4) bytes from the device at a port.
    ///
    /// A device may call it in its own access, but must not reach itself.
    pub fn read_port(&self, port: u16, size: u8) -> u32 {
        self.ports.read(port, size)
    }

    /// Writes the low `size` (1, 2 or 4) bytes of a value to the device at a port.
    ///
    /// A device may call it, as [`Machine::read_port`].
    pub fn write_port(&self, port: u16, size: u8, value: u32) {
        self.ports.write(port, size, value);
    }

    /// Opens a way to QEMU's own devices under a range of ports, from the first to the last, that the plugin serves.
    ///
    /// # Errors
    ///
    /// If QEMU does not export what is needed.
    ///
    /// # Panics
    ///
    /// If this thread does not hold QEMU's global lock.
    pub fn below(
        self: &Arc<Machine>,
        first: u16,
        last: u16,
    ) -> Result<Arc<PortsBelow>, MachineError> {
        let below = Arc::new(PortsBelow::new(first, last)?);
        if !self.finder.as_ref().is_some_and(RegionFinder::try_out) {
            let why = "QEMU describes regions in another way".to_owned();
            return Err(MachineError::SelfTest(why));
        }
        let watch = match self.below.get() {
            Some(watch) => watch,
            None => {
                let watch = BelowWatch::start(self, GlobalLock::new(LockFunctions::find()?))?;
                self.below.get_or_init(|| watch)
            }
        };
        watch.add(&below);
        Ok(below)
    }

    /// Runs `work` while the plugin's regions are not on the bus. No vCPU may run meanwhile.
    pub(super) fn without_own_regions<R>(&self, work: impl FnOnce() -> R) -> R {
        self.bus.without_own_regions(&self.lock, work)
    }

    /// Returns what QEMU has in each range of ports, from the first to the last, under the plugin's regions.
    ///
    /// Call it in a handler of [`Machine::on_reset`]: it takes the plugin's regions off the bus meanwhile. Nothing is found if
    /// QEMU does not export the functions.
    ///
    /// # Panics
    ///
    /// If this thread does not hold QEMU's global lock.
    pub fn hidden(&self, ranges: &[(u16, u16)]) -> Vec<Vec<HiddenRegion>> {
        match &self.finder {
            Some(finder) => self.bus.hidden(&self.lock, finder, ranges),
            None => vec![Vec::new(); ranges.len()],
        }
    }

    /// Returns the guest's memory; `None` if QEMU does not export the functions for it.
    pub fn ram(&self) -> Option<&Arc<GuestRam>> {
        self.ram.as_ref()
    }

    /// Calls `reset` at each reset of the machine, once before it starts, and before a snapshot is loaded.
    ///
    /// # Panics
    ///
    /// If this thread does not hold QEMU's global lock.
    pub fn on_reset(&self, reset: impl Fn() + Send + Sync + 'static) {
        self.resets.register(&self.lock, Box::new(reset));
    }

    /// Registers work that any thread may have QEMU's main loop run, under the global lock.
    ///
    /// # Errors
    ///
    /// If QEMU does not export the functions for it.
    ///
    /// # Panics
    ///
    /// If this thread does not hold QEMU's global lock.
    pub fn bottom_half(
        &self,
        work: impl Fn() + Send + Sync + 'static,
    ) -> Result<BottomHalf, MachineError> {
        let (creation, request) = (BottomHalfCreation::find()?, BottomHalfRequest::find()?);
        Ok(BottomHalf::new(&self.lock, creation, request, Box::new(work)))
    }

    /// Asks QEMU to end as if the guest had switched the machine off, with this exit status.
    ///
    /// The guest may run a little longer. A second request in that time does not change the status.
    pub fn exit(&self, status: u8) {
        if !self.is_ending.swap(true, Ordering::Relaxed) {
            self.shutdown.request(status);
        }
    }

    /// Keeps QEMU from saving or migrating the machine; `why` is QEMU's message to the user.
    ///
    /// # Errors
    ///
    /// If QEMU runs with `-only-migratable`.
    ///
    /// # Panics
    ///
    /// If this thread does not hold QEMU's global lock.
    pub fn block_migration(&self, why: &str) -> Result<(), MachineError> {
        self.blocker.block(&self.lock, why)
    }

    /// Sets an interrupt line of the machine's ISA bus. Does nothing if there is no ISA bus.
    ///
    /// Takes QEMU's global lock where this thread does not hold it: the caller must hold no lock that a
    /// holder of QEMU's may wait for.
    pub fn set_isa_irq(&self, line: IsaIrq, level: bool) {
        self.irqs.set(&self.lock, line, level);
    }

    /// Returns true if [`Machine::observe_isa_irqs`] is possible on this QEMU.
    pub fn can_observe_isa_irqs(&self) -> bool {
        self.irqs.can_be_observed()
    }

    /// Passes each level that a device sets on a line of the ISA bus to `observer`, under QEMU's global lock.
    ///
    /// Call it in a reset: the bus exists from the first one on. A second observer gets nothing. Returns false if this
    /// QEMU or this machine does not allow it.
    ///
    /// # Panics
    ///
    /// If this thread does not hold QEMU's global lock.
    pub fn observe_isa_irqs(&self, observer: impl Fn(u8, bool) + Send + Sync + 'static) -> bool {
        self.irqs.observe(&self.lock, Box::new(observer))
    }

    /// Runs `work` with QEMU's global lock held.
    ///
    /// Takes the lock where this thread does not hold it, as [`Machine::set_isa_irq`] does.
    pub fn with_global_lock<R>(&self, work: impl FnOnce() -> R) -> R {
        self.lock.with(work)
    }
}
