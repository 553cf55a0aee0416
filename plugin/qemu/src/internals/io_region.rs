//! The handler of a region of ports, and the C callbacks by which QEMU's bus calls it.

use std::ffi::{c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::c_types::{DEVICE_LITTLE_ENDIAN, ImplementedAccesses, MemoryRegionOps, ValidAccesses};
use super::global_lock::GlobalLock;

/// Serves the accesses to a region of ports.
///
/// Several vCPUs may call it at once if the region is [`Locking::Own`].
pub trait PortHandler: Send + Sync {
    /// The guest reads `size` bytes (1, 2 or 4) at an offset, in bytes, into the region.
    ///
    /// Some of the bytes may lie beyond the region's end.
    fn read(&self, offset: u16, size: u8) -> u32;

    /// The guest writes the low `size` bytes of a value. As in [`PortHandler::read`].
    fn write(&self, offset: u16, size: u8, value: u32);
}

/// The lock that serializes accesses to a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// QEMU's global lock, which is held in each call. For handlers that drive interrupt lines.
    Qemu,
    /// The handler's own lock. From QEMU 11.1 on, calls come without the global lock, and cost half.
    Own,
    /// The handler's own lock, and vCPUs never hold the global lock in a call: the handler may wait long.
    ///
    /// Threads other than vCPUs, as of the monitor, do hold it.
    Unlocked,
}

// SAFETY: the only value is `REGION_OPS`, which is never written.
unsafe impl Sync for MemoryRegionOps {}

/// The guest may make every access, and the callbacks take each as it is made: QEMU splits none.
pub(super) static REGION_OPS: MemoryRegionOps = MemoryRegionOps {
    read: Some(region_read),
    write: Some(region_write),
    read_with_attrs: std::ptr::null(),
    write_with_attrs: std::ptr::null(),
    endianness: DEVICE_LITTLE_ENDIAN,
    valid: ValidAccesses {
        min_access_size: 1,
        max_access_size: 4,
        unaligned: true,
        accepts: std::ptr::null(),
    },
    implementation: ImplementedAccesses { min_access_size: 1, max_access_size: 4, unaligned: true },
};

/// The user data of a region's callbacks.
pub(super) struct Region {
    handler: Box<dyn PortHandler>,
    /// The global lock, if vCPUs release it in a call.
    released: Option<GlobalLock>,
}

impl Region {
    pub fn new(handler: Box<dyn PortHandler>, released: Option<GlobalLock>) -> Region {
        Region { handler, released }
    }

    /// Runs the handler. A panic must not unwind into QEMU: then `nothing` is returned, as from an empty port.
    fn guarded<R>(&self, nothing: R, work: impl FnOnce(&dyn PortHandler) -> R) -> R {
        let guarded = || catch_unwind(AssertUnwindSafe(|| work(&*self.handler))).unwrap_or(nothing);
        match &self.released {
            None => guarded(),
            Some(lock) => lock.released_by_vcpu(guarded),
        }
    }
}

extern "C" fn region_read(opaque: *mut c_void, offset: u64, size: c_uint) -> u64 {
    // SAFETY: the `opaque` that `PortBus::add` gave with these callbacks: a leaked `Region`.
    let region = unsafe { &*opaque.cast::<Region>() };
    let value = region.guarded(u32::MAX, |handler| handler.read(offset as u16, size as u8));
    u64::from(value)
}

extern "C" fn region_write(opaque: *mut c_void, offset: u64, value: u64, size: c_uint) {
    // SAFETY: as in `region_read`.
    let region = unsafe { &*opaque.cast::<Region>() };
    region.guarded((), |handler| handler.write(offset as u16, size as u8, value as u32));
}
