//! QEMU's port bus: adds regions of ports, and tests the bus before anything relies on it.

use std::ffi::{CString, c_int};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::c_types::MemoryRegion;
use super::error::MachineError;
use super::global_lock::GlobalLock;
use super::io_region::{Locking, PortHandler, REGION_OPS, Region};
use super::symbols::{IoRoot, LocklessIo, PortFunctions, RegionFunctions};

/// The size of the I/O space, in ports.
const PORTS: u32 = 0x1_0000;

/// Above QEMU's own devices: those of the PC have priority 0 and 1.
const PRIORITY: c_int = 1000;

/// QEMU's port bus.
pub(super) struct PortBus {
    root: IoRoot,
    regions: RegionFunctions,
    /// `None` before QEMU 11.1: all accesses come under the global lock.
    lockless: Option<LocklessIo>,
    /// The plugin's regions on the bus. Used only under the global lock.
    own: Mutex<Vec<OwnRegion>>,
}

/// A region of the plugin, which is never freed.
struct OwnRegion {
    first: u16,
    region: *mut MemoryRegion,
}

// SAFETY: the pointer is only passed to QEMU's functions, with the global lock held.
unsafe impl Send for OwnRegion {}

impl PortBus {
    pub fn new(root: IoRoot, regions: RegionFunctions, lockless: Option<LocklessIo>) -> PortBus {
        PortBus { root, regions, lockless, own: Mutex::default() }
    }

    /// Adds a region of `count` ports to the bus, with a priority above QEMU's devices.
    ///
    /// # Panics
    ///
    /// If `count` is 0, if the range leaves the I/O space, or if the global lock is not held.
    pub fn add(
        &self,
        lock: &GlobalLock,
        first: u16,
        count: u32,
        name: &str,
        locking: Locking,
        handler: Box<dyn PortHandler>,
    ) -> *mut MemoryRegion {
        assert!(count > 0 && u32::from(first) + count <= PORTS, "a range within the I/O space");
        lock.assert_held();
        let released = (locking == Locking::Unlocked).then(|| lock.clone());
        let opaque: *mut Region = Box::leak(Box::new(Region::new(handler, released)));
        let label = CString::new(format!("pvio: {name}").replace('\0', "")).expect("no NUL");
        let region: *mut MemoryRegion = Box::leak(Box::new(MemoryRegion::zeroed()));
        let nobody = std::ptr::null_mut();
        let size = u64::from(count);
        // SAFETY: with the global lock held. The region has room for QEMU's, is zeroed as QEMU's
        // allocations are, and is never freed; nor are the callbacks' user data and the operations. QEMU
        // copies the label. The range is within the I/O space.
        unsafe {
            (self.regions.memory_region_init_io)(
                region,
                nobody,
                &REGION_OPS,
                opaque.cast(),
                label.as_ptr(),
                size,
            );
            if let (Locking::Own | Locking::Unlocked, Some(lockless)) = (locking, self.lockless) {
                (lockless.memory_region_enable_lockless_io)(region);
            }
            let bus = (self.root.get_system_io)();
            (self.regions.memory_region_add_subregion_overlap)(bus, first.into(), region, PRIORITY);
        }
        self.own().push(OwnRegion { first, region });
        region
    }

    fn own(&self) -> MutexGuard<'_, Vec<OwnRegion>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` while the plugin's regions are not on the bus. No vCPU may run meanwhile.
    ///
    /// # Panics
    ///
    /// If the global lock is not held.
    pub fn without_own_regions<R>(&self, lock: &GlobalLock, work: impl FnOnce() -> R) -> R {
        lock.assert_held();
        let own = self.own();
        // SAFETY: with the global lock held. Each region is on the bus, and comes back to its place below.
        let bus = unsafe { (self.root.get_system_io)() };
        for OwnRegion { region, .. } in &*own {
            // SAFETY: as above.
            unsafe { (self.regions.memory_region_del_subregion)(bus, *region) };
        }
        let result = work();
        let add = self.regions.memory_region_add_subregion_overlap;
        for OwnRegion { first, region } in &*own {
            // SAFETY: as in `add`, where the same region was added at the same place.
            unsafe { add(bus, (*first).into(), *region, PRIORITY) };
        }
        result
    }

    /// Adds a scratch region to the bus temporarily, and checks that accesses arrive as they were made.
    pub fn try_out(&self, lock: &GlobalLock, ports: &PortFunctions) -> Result<(), MachineError> {
        type Log = Mutex<Vec<(char, u16, u8, u32)>>;
        struct Scratch(&'static Log);
        impl PortHandler for Scratch {
            fn read(&self, offset: u16, size: u8) -> u32 {
                self.0.lock().expect("no panic").push(('r', offset, size, 0));
                0xa55a_1234
            }
            fn write(&self, offset: u16, size: u8, value: u32) {
                self.0.lock().expect("no panic").push(('w', offset, size, value));
            }
        }
        // No PC has anything at these ports; the region is gone again before the guest runs.
        const SCRATCH: u16 = 0xfe10;
        static LOG: Log = Mutex::new(Vec::new());
        let handler = Box::new(Scratch(&LOG));
        let region = self.add(lock, SCRATCH, 8, "self-test", Locking::Own, handler);
        ports.write(SCRATCH + 4, 4, 0x1234_5678);
        let read = ports.read(SCRATCH + 1, 2);
        // SAFETY: with the global lock held; the region is the one that was just put on the bus.
        unsafe { (self.regions.memory_region_del_subregion)((self.root.get_system_io)(), region) };
        self.own().retain(|own| own.region != region);
        let log = LOG.lock().expect("no panic").split_off(0);
        let expected = [('w', 4, 4, 0x1234_5678), ('r', 1, 2, 0)];
        match (read, log == expected) {
            (0x1234, true) => Ok(()),
            _ => Err(MachineError::SelfTest(format!("read {read:#x}, saw {log:x?}"))),
        }
    }
}
