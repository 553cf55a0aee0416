//! The guest's memory by physical address, except memory-mapped devices.
//!
//! It distinguishes RAM and ROM from devices, which the plugin API does not, and reads or writes RAM in
//! place. QEMU marks written memory for migration and discards code translated from it, as for a device's
//! DMA. This module does not know page tables.

use vm_memory::VolatileSlice;

use super::mapped_ram::MappedRam;
use super::mapping::{Mapping, PhysicalSpace};
use super::symbols::{DirtyTracking, MemoryFunctions, MemoryIsIo, MemorySpace, SpaceIsIo};
use crate::symbol::NotExported;
use crate::version::QemuVersion;

/// QEMU's function that returns true if a device is at an address.
enum IsIo {
    /// From QEMU 10.2 on.
    OfSpace(SpaceIsIo),
    /// Before.
    OfMemory(MemoryIsIo),
}

/// The guest's memory. Any QEMU thread may use it.
pub struct GuestRam {
    space: PhysicalSpace,
    is_io: IsIo,
    tracking: DirtyTracking,
}

impl GuestRam {
    /// Opens the guest's memory; `None` if QEMU's version is not a known one, or if QEMU does not export
    /// what is needed.
    pub fn open(version: Option<QemuVersion>) -> Option<GuestRam> {
        version?.is_known().then_some(())?;
        GuestRam::find().ok()
    }

    fn find() -> Result<GuestRam, NotExported> {
        let is_io = match SpaceIsIo::find() {
            Ok(function) => IsIo::OfSpace(function),
            Err(_) => IsIo::OfMemory(MemoryIsIo::find()?),
        };
        let space =
            PhysicalSpace { space: MemorySpace::find()?, functions: MemoryFunctions::find()? };
        Ok(GuestRam { space, is_io, tracking: DirtyTracking::find()? })
    }

    #[inline]
    fn is_io(&self, physical: u64) -> bool {
        // SAFETY: a look at the machine's memory map, which QEMU protects by RCU.
        unsafe {
            match self.is_io {
                IsIo::OfSpace(functions) => {
                    let space = self.space.space.address_space_memory.as_ptr();
                    (functions.address_space_is_io)(space, physical)
                }
                IsIo::OfMemory(functions) => (functions.cpu_physical_memory_is_io)(physical),
            }
        }
    }

    /// Reads 4 little-endian bytes at a multiple of 4; `None` if there is no memory.
    #[inline]
    pub fn read_u32(&self, physical: u64) -> Option<u32> {
        let PhysicalSpace { space, functions } = self.space;
        let (space, result) = (space.address_space_memory.as_ptr(), std::ptr::null_mut());
        // SAFETY: memory, so that the load has no effect; QEMU may tell no result.
        (!self.is_io(physical))
            .then(|| unsafe { (functions.address_space_ldl_le)(space, physical, 0, result) })
    }

    /// Reads 8 little-endian bytes at a multiple of 8; `None` if there is no memory.
    #[inline]
    pub fn read_u64(&self, physical: u64) -> Option<u64> {
        let PhysicalSpace { space, functions } = self.space;
        let (space, result) = (space.address_space_memory.as_ptr(), std::ptr::null_mut());
        // SAFETY: as in `read_u32`.
        (!self.is_io(physical))
            .then(|| unsafe { (functions.address_space_ldq_le)(space, physical, 0, result) })
    }

    /// Calls `work` with the `len` bytes of RAM or ROM at an address, to read; `None` if a device or nothing
    /// is there.
    ///
    /// The guest may write them at any time.
    #[inline]
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

    /// Calls `work` with the `len` bytes of RAM at an address, to read and write; `None` if ROM, a device or
    /// nothing is there.
    pub fn with_mut<R>(
        &self,
        physical: u64,
        len: usize,
        work: impl FnOnce(VolatileSlice<'_>) -> R,
    ) -> Option<R> {
        self.mapped(physical, len, true, work)
    }

    /// Keeps `len` bytes of RAM mapped until the result is dropped; `None` if ROM, a device or nothing is
    /// there.
    pub fn hold(&self, physical: u64, len: usize) -> Option<MappedRam> {
        let mapping = self.space.map(physical, len, true)?;
        Some(MappedRam::new(mapping, len, self.tracking))
    }

    /// Maps RAM or ROM to read it; `None` if a device or nothing is there.
    pub(super) fn map_page(&self, physical: u64, len: usize) -> Option<Mapping> {
        if self.is_io(physical) {
            return None;
        }
        self.space.map(physical, len, false)
    }

    /// The RAM or ROM at a page: where it is in this process, and how many bytes of it follow there.
    pub(super) fn extent(&self, physical: u64) -> Option<(u64, u64)> {
        /// More than any region has: QEMU maps to the end of the region.
        const MAX: usize = 1 << 40;
        if self.is_io(physical) {
            return None;
        }
        let mapping = self.space.map_some(physical, MAX)?;
        Some((mapping.host.addr() as u64, mapping.len & !0xfff)).filter(|&(_, len)| len > 0)
    }

    #[inline]
    fn mapped<R>(
        &self,
        physical: u64,
        len: usize,
        writes: bool,
        work: impl FnOnce(VolatileSlice<'_>) -> R,
    ) -> Option<R> {
        let mut mapping = self.space.map(physical, len, writes)?;
        mapping.written = mapping.len;
        // SAFETY: at least `len` bytes are mapped until `mapping` is dropped, which is after `work`. The
        // slice copies by volatile accesses: the guest may write meanwhile, and expects no order of a
        // device's DMA.
        Some(work(unsafe { VolatileSlice::new(mapping.host.cast(), len) }))
    }
}
