//! Accesses to QEMU's own devices under the plugin's regions.
//!
//! QEMU may change what is there while the machine runs: a guest maps a PCI device elsewhere. So a listener hears of each
//! change of QEMU's memory map, and asks for another look while no vCPU runs. The vCPU that made the change does that
//! before its next instruction.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::c_types::{CpuState, MemoryListener, MemoryRegion};
use super::current_cpu::current_cpu;
use super::global_lock::GlobalLock;
use super::machine::Machine;
use super::port_presence::RegionFinder;
use super::symbols::{ListenerFunctions, PortSpace, RegionDispatch, SafeWork, VcpuLookup};
use crate::symbol::NotExported;

/// QEMU's own devices at a range of ports that the plugin serves.
pub struct PortsBelow {
    dispatch: RegionDispatch,
    first: u16,
    last: u16,
    /// What is at each port; empty until the machine is complete. Used only under the global lock.
    regions: Mutex<Vec<Place>>,
}

/// A port's place in one of QEMU's regions, to which this holds a reference.
#[derive(Clone, Copy)]
struct Place {
    region: *mut MemoryRegion,
    offset: u64,
}

// SAFETY: the pointers are only passed to QEMU's functions, with the global lock held.
unsafe impl Send for Place {}

impl PortsBelow {
    pub(super) fn new(first: u16, last: u16) -> Result<PortsBelow, NotExported> {
        let dispatch = RegionDispatch::find()?;
        Ok(PortsBelow { dispatch, first, last, regions: Mutex::default() })
    }

    fn place(&self, port: u16) -> Option<Place> {
        lock(&self.regions).get(usize::from(port.checked_sub(self.first)?)).copied()
    }

    /// Reads `size` (1, 2 or 4) bytes at a port of the range from QEMU's device, as an instruction would.
    ///
    /// Call it in an access to the plugin's region, under QEMU's global lock. Where QEMU has nothing, it reads what QEMU
    /// reads there. All ones before the machine is complete.
    pub fn read(&self, port: u16, size: u8) -> u32 {
        let mut value = u64::MAX;
        if let Some(Place { region, offset }) = self.place(port) {
            let read = self.dispatch.memory_region_dispatch_read;
            // SAFETY: the caller holds the global lock, and this holds a reference to the region. An access that the
            // guest makes at this time.
            unsafe { read(region, offset, &mut value, op(size), 0) };
        }
        value as u32
    }

    /// Writes the low `size` (1, 2 or 4) bytes of a value, as [`PortsBelow::read`].
    pub fn write(&self, port: u16, size: u8, value: u32) {
        if let Some(Place { region, offset }) = self.place(port) {
            let write = self.dispatch.memory_region_dispatch_write;
            // SAFETY: as in `read`.
            unsafe { write(region, offset, value.into(), op(size), 0) };
        }
    }

    /// Looks again at what is there, while the plugin's regions are not on the bus.
    fn look(&self, finder: &RegionFinder) {
        let places = (self.first..=self.last).map(|port| {
            let (region, offset) = finder.hold(port);
            Place { region, offset }
        });
        let places = places.collect();
        let old = std::mem::replace(&mut *lock(&self.regions), places);
        old.iter().for_each(|place| finder.release(place.region));
    }
}

/// `MemOp`: the size alone, since guest and host are little-endian.
fn op(size: u8) -> c_int {
    size.trailing_zeros() as c_int
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows changes of what is below all ranges. One for a machine: each look changes the memory map, too.
pub(super) struct BelowWatch {
    finder: RegionFinder,
    lock: GlobalLock,
    work: SafeWork,
    lookup: VcpuLookup,
    machine: Arc<Machine>,
    all: Mutex<Vec<Arc<PortsBelow>>>,
    /// True while this itself changes the memory map, and while a look is on its way.
    ///
    /// Relaxed: all uses are under QEMU's global lock.
    is_asked: AtomicBool,
}

/// The listener, and what it tells. QEMU passes the address of the first.
#[repr(C)]
struct Listener {
    listener: MemoryListener,
    watch: BelowWatch,
}

impl BelowWatch {
    /// Starts to follow changes, for ever.
    pub fn start(
        machine: &Arc<Machine>,
        lock: GlobalLock,
    ) -> Result<&'static BelowWatch, NotExported> {
        lock.assert_held();
        let (functions, space) = (ListenerFunctions::find()?, PortSpace::find()?);
        let watch = BelowWatch {
            finder: RegionFinder::find()?,
            lock,
            work: SafeWork::find()?,
            lookup: VcpuLookup::find()?,
            machine: Arc::clone(machine),
            all: Mutex::default(),
            // Until the machine is complete.
            is_asked: AtomicBool::new(true),
        };
        let listener = MemoryListener { begin: None, commit: Some(committed), others: [0; 62] };
        let listener: &'static mut Listener = Box::leak(Box::new(Listener { listener, watch }));
        let pointer: *mut Listener = listener;
        // SAFETY: with the global lock held. The listener is zero but for its callback, and is never freed.
        unsafe {
            (functions.memory_listener_register)(
                pointer.cast::<MemoryListener>(),
                space.address_space_io.as_ptr(),
            );
        }
        // SAFETY: the leaked listener; only shared references to its watch exist.
        let watch: &'static BelowWatch = unsafe { &(*pointer).watch };
        machine.on_reset(move || watch.look());
        Ok(watch)
    }

    /// Follows what is below one more range.
    pub fn add(&self, below: &Arc<PortsBelow>) {
        lock(&self.all).push(Arc::clone(below));
    }

    /// Looks at what is below. No vCPU may run; the global lock is held.
    fn look(&self) {
        self.is_asked.store(true, Ordering::Relaxed);
        self.machine.without_own_regions(|| {
            lock(&self.all).iter().for_each(|below| below.look(&self.finder));
        });
        self.is_asked.store(false, Ordering::Relaxed);
    }
}

/// QEMU has changed its memory map. With the global lock held.
unsafe extern "C" fn committed(listener: *mut MemoryListener) {
    let listener = listener.cast::<Listener>();
    // SAFETY: the leaked listener with which this function was registered; its watch is only shared.
    let watch = unsafe { &(*listener).watch };
    if watch.is_asked.swap(true, Ordering::Relaxed) {
        return;
    }
    let current = current_cpu();
    // SAFETY: this thread's vCPU, or the first, which is never removed; the work is a function of this library,
    // which is never unloaded.
    unsafe {
        let cpu = match current.is_null() {
            true => (watch.lookup.qemu_get_cpu)(0),
            false => current,
        };
        (watch.work.async_safe_run_on_cpu)(cpu, look_again, listener.cast());
    }
}

/// QEMU calls it on a vCPU's thread, while no vCPU runs guest code, without the global lock.
unsafe extern "C" fn look_again(_cpu: *mut CpuState, listener: *mut c_void) {
    // SAFETY: as in `committed`, which passes it.
    let watch = unsafe { &(*listener.cast::<Listener>()).watch };
    watch.lock.with(|| watch.look());
}
