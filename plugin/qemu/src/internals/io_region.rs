//! A region of ports as QEMU's bus knows it: the structures that QEMU reads, and the functions that it
//! calls.

use std::ffi::{c_int, c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Serves the accesses to a region of ports.
///
/// May be called by several vCPUs at once where the region is [`Locking::Own`].
pub trait PortHandler: Send + Sync {
    /// The guest reads `size` bytes (1, 2 or 4) at an offset into the region, of which some may lie
    /// beyond its end.
    fn read(&self, offset: u16, size: u8) -> u32;

    /// The guest writes.
    fn write(&self, offset: u16, size: u8, value: u32);
}

/// Who keeps the accesses to a region apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// QEMU, by its global lock, which is held in each call: for what drives interrupt lines.
    Qemu,
    /// The handler itself; where QEMU can (11.1), calls come without its lock, and faster.
    Own,
}

/// `MemoryRegionOps` in QEMU's `system/memory.h`.
#[repr(C)]
pub(super) struct MemoryRegionOps {
    read: Option<extern "C" fn(*mut c_void, u64, c_uint) -> u64>,
    write: Option<extern "C" fn(*mut c_void, u64, u64, c_uint)>,
    read_with_attrs: *const c_void,
    write_with_attrs: *const c_void,
    endianness: c_int,
    valid: Valid,
    implementation: Implementation,
}

/// What accesses the guest may make.
#[repr(C)]
struct Valid {
    min_access_size: c_uint,
    max_access_size: c_uint,
    unaligned: bool,
    accepts: *const c_void,
}

/// What accesses the handler gets.
#[repr(C)]
struct Implementation {
    min_access_size: c_uint,
    max_access_size: c_uint,
    unaligned: bool,
}

// SAFETY: the only value is `REGION_OPS`, which is never written.
unsafe impl Sync for MemoryRegionOps {}

/// `DEVICE_LITTLE_ENDIAN` of `enum device_endian`.
const LITTLE_ENDIAN: c_int = 2;

pub(super) static REGION_OPS: MemoryRegionOps = MemoryRegionOps {
    read: Some(region_read),
    write: Some(region_write),
    read_with_attrs: std::ptr::null(),
    write_with_attrs: std::ptr::null(),
    endianness: LITTLE_ENDIAN,
    valid: Valid {
        min_access_size: 1,
        max_access_size: 4,
        unaligned: true,
        accepts: std::ptr::null(),
    },
    implementation: Implementation { min_access_size: 1, max_access_size: 4, unaligned: true },
};

/// What a region's callbacks get: lives as long as QEMU does.
pub(super) struct Region {
    handler: Box<dyn PortHandler>,
}

impl Region {
    pub fn new(handler: Box<dyn PortHandler>) -> Region {
        Region { handler }
    }

    /// Runs a handler. A panic must not cross into QEMU: then it is as if nothing were there.
    fn guarded<R>(&self, nothing: R, work: impl FnOnce(&dyn PortHandler) -> R) -> R {
        catch_unwind(AssertUnwindSafe(|| work(&*self.handler))).unwrap_or(nothing)
    }
}

extern "C" fn region_read(opaque: *mut c_void, offset: u64, size: c_uint) -> u64 {
    // SAFETY: the `opaque` that `Machine::device` gave with these callbacks: a leaked `Region`.
    let region = unsafe { &*opaque.cast::<Region>() };
    let value = region.guarded(u32::MAX, |handler| handler.read(offset as u16, size as u8));
    u64::from(value)
}

extern "C" fn region_write(opaque: *mut c_void, offset: u64, value: u64, size: c_uint) {
    // SAFETY: as in `region_read`.
    let region = unsafe { &*opaque.cast::<Region>() };
    region.guarded((), |handler| handler.write(offset as u16, size as u8, value as u32));
}

/// A `MemoryRegion`, whose size is QEMU's secret (272 bytes in 10.0): room for several, zeroed.
#[repr(C, align(64))]
pub(super) struct MemoryRegion([u8; 4096]);

impl MemoryRegion {
    /// Zeroed, as QEMU wants it.
    pub const fn zeroed() -> MemoryRegion {
        MemoryRegion([0; 4096])
    }
}
