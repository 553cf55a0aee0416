//! The guest's memory by physical address, as far as it is plain memory.
//!
//! It knows RAM and ROM from devices, which the plugin API does not, and reads or writes the former in
//! place. What is written is marked for migration, and translated code of it is thrown away, as QEMU
//! does for a device's DMA. It knows no page tables.

use std::ffi::c_void;

use vm_memory::VolatileSlice;

use super::lookup::lookup_export;
use super::mapped_ram::{MappedRam, Written};
use crate::version::QemuVersion;

/// `MemTxAttrs` in QEMU's `exec/memattrs.h`: at most 8 bytes, of which none has to be set.
type MemTxAttrs = u64;
type Map = unsafe extern "C" fn(*mut c_void, u64, *mut u64, bool, MemTxAttrs) -> *mut c_void;
type Unmap = unsafe extern "C" fn(*mut c_void, *mut c_void, u64, bool, u64);
type FromHost = unsafe extern "C" fn(*mut c_void, *mut u64) -> *mut c_void;
type Load32 = unsafe extern "C" fn(*mut c_void, u64, MemTxAttrs, *mut u32) -> u32;
type Load64 = unsafe extern "C" fn(*mut c_void, u64, MemTxAttrs, *mut u32) -> u64;

/// What tells whether a device is at an address.
enum IsIo {
    /// `address_space_is_io`, from QEMU 10.2 on.
    OfSpace(unsafe extern "C" fn(*mut c_void, u64) -> bool),
    /// `cpu_physical_memory_is_io`, before.
    OfMemory(unsafe extern "C" fn(u64) -> bool),
}

/// The guest's memory.
pub struct GuestRam {
    /// `AddressSpace address_space_memory`, for ever.
    space: *mut c_void,
    map: Map,
    unmap: Unmap,
    from_host: FromHost,
    load_32: Load32,
    load_64: Load64,
    is_io: IsIo,
    written: Written,
}

// SAFETY: QEMU's global and functions of QEMU's that any thread may call.
unsafe impl Send for GuestRam {}
// SAFETY: as above.
unsafe impl Sync for GuestRam {}

macro_rules! export {
    ($symbol:literal) => {{
        let address = lookup_export($symbol)?;
        #[expect(clippy::missing_transmute_annotations, reason = "the field's type stands once")]
        // SAFETY: a non-null address of the QEMU function of this name; the type that it is given is
        // that of QEMU's `system/memory.h` (before 10.2 `exec/memory.h`) in the known versions.
        unsafe {
            std::mem::transmute(address)
        }
    }};
}

impl GuestRam {
    /// Of a QEMU whose declarations are known; `None` where it is another, or does not export what is
    /// needed.
    pub fn open(version: Option<QemuVersion>) -> Option<GuestRam> {
        version?.is_known().then_some(())?;
        let is_io = match lookup_export(c"address_space_is_io") {
            Some(_) => IsIo::OfSpace(export!(c"address_space_is_io")),
            None => IsIo::OfMemory(export!(c"cpu_physical_memory_is_io")),
        };
        Some(GuestRam {
            space: lookup_export(c"address_space_memory")?,
            map: export!(c"address_space_map"),
            unmap: export!(c"address_space_unmap"),
            from_host: export!(c"memory_region_from_host"),
            load_32: export!(c"address_space_ldl_le"),
            load_64: export!(c"address_space_ldq_le"),
            is_io,
            written: Written::open()?,
        })
    }

    fn is_io(&self, physical: u64) -> bool {
        // SAFETY: a look at the machine's memory map, which QEMU protects by RCU.
        unsafe {
            match self.is_io {
                IsIo::OfSpace(function) => function(self.space, physical),
                IsIo::OfMemory(function) => function(physical),
            }
        }
    }

    /// Reads 4 bytes at a multiple of 4; `None` where there is no memory.
    pub fn read_u32(&self, physical: u64) -> Option<u32> {
        // SAFETY: memory, so that nothing but the load happens; it may tell no result.
        (!self.is_io(physical))
            .then(|| unsafe { (self.load_32)(self.space, physical, 0, std::ptr::null_mut()) })
    }

    /// Reads 8 bytes at a multiple of 8; `None` where there is no memory.
    pub fn read_u64(&self, physical: u64) -> Option<u64> {
        // SAFETY: as in `read_u32`.
        (!self.is_io(physical))
            .then(|| unsafe { (self.load_64)(self.space, physical, 0, std::ptr::null_mut()) })
    }

    /// Gives `work` the RAM or ROM at an address, to read; `None` where a device is, or nothing.
    ///
    /// The guest may write it at any time.
    pub fn with<R>(
        &self,
        physical: u64,
        len: usize,
        work: impl FnOnce(VolatileSlice<'_>) -> R,
    ) -> Option<R> {
        match self.is_io(physical) {
            true => None,
            false => self.mapped(physical, len, false, work),
        }
    }

    /// Gives `work` the RAM at an address, to read and write; `None` where ROM is, a device, or nothing.
    pub fn with_mut<R>(
        &self,
        physical: u64,
        len: usize,
        work: impl FnOnce(VolatileSlice<'_>) -> R,
    ) -> Option<R> {
        self.mapped(physical, len, true, work)
    }

    /// The RAM at an address, for as long as what comes back is there; `None` where ROM is, a device, or
    /// nothing.
    pub fn hold(&self, physical: u64, len: usize) -> Option<MappedRam> {
        let mapped = self.map(physical, len, true)?;
        Some(MappedRam::new(mapped, len, self.written))
    }

    fn mapped<R>(
        &self,
        physical: u64,
        len: usize,
        writes: bool,
        work: impl FnOnce(VolatileSlice<'_>) -> R,
    ) -> Option<R> {
        let mut mapped = self.map(physical, len, writes)?;
        mapped.done = mapped.len;
        // SAFETY: `len` bytes that are mapped, until `mapped` is dropped after `work`; the slice copies
        // in a way that allows for a guest that writes meanwhile.
        Some(work(unsafe { VolatileSlice::new(mapped.host.cast(), len) }))
    }

    fn map(&self, physical: u64, len: usize, writes: bool) -> Option<Mapped> {
        let mut mapped = len as u64;
        // SAFETY: QEMU holds the memory there until it is unmapped. Of what it cannot map it gives a
        // copy of its own, which for writing is empty; for reading, `with` has made sure that it is not
        // made of a device's registers.
        let host = unsafe { (self.map)(self.space, physical, &mut mapped, writes, 0) };
        if host.is_null() {
            return None;
        }
        let (space, unmap) = (self.space, self.unmap);
        let mut mapped = Mapped {
            space,
            unmap,
            host,
            len: mapped,
            writes,
            done: 0,
            region: std::ptr::null_mut(),
            offset: 0,
        };
        // SAFETY: only looks whether the address is in some block of RAM or ROM.
        mapped.region = unsafe { (self.from_host)(host, &mut mapped.offset) };
        (!mapped.region.is_null() && mapped.len >= len as u64).then_some(mapped)
    }
}

/// What is mapped; given back also where the work on it panics.
pub(super) struct Mapped {
    space: *mut c_void,
    unmap: Unmap,
    pub host: *mut c_void,
    len: u64,
    writes: bool,
    /// How much has been written, if it is for writing.
    pub done: u64,
    /// The block of RAM or ROM that it is in, and where.
    pub region: *mut c_void,
    pub offset: u64,
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: what `map` gave, once.
        unsafe { (self.unmap)(self.space, self.host, self.len, self.writes, self.done) };
    }
}
