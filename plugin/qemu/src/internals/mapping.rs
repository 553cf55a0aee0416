//! Guest memory by physical address, mapped into this process temporarily.

use std::ffi::c_void;

use super::c_types::MemoryRegion;
use super::symbols::{MemoryFunctions, MemorySpace};

/// The guest's physical address space, and QEMU's functions for it.
///
/// Any thread may call the functions: QEMU protects its memory map by RCU.
#[derive(Clone, Copy)]
pub(super) struct PhysicalSpace {
    pub space: MemorySpace,
    pub functions: MemoryFunctions,
}

impl PhysicalSpace {
    /// Maps `len` bytes of RAM (or ROM, to read); `None` if something else is there, or not all of it.
    #[inline]
    pub fn map(self, physical: u64, len: usize, writes: bool) -> Option<Mapping> {
        self.map_up_to(physical, len, writes).filter(|mapping| mapping.len >= len as u64)
    }

    /// Maps RAM or ROM to read: as much of `len` bytes as is contiguous.
    pub fn map_some(self, physical: u64, len: usize) -> Option<Mapping> {
        self.map_up_to(physical, len, false)
    }

    #[inline]
    fn map_up_to(self, physical: u64, len: usize, writes: bool) -> Option<Mapping> {
        let mut mapped = len as u64;
        // SAFETY: QEMU holds the memory until it is unmapped. Of a device it gives a copy of its own: of
        // nothing for writing, and for reading the caller makes sure that it reads no device.
        let host = unsafe {
            let space = self.space.address_space_memory.as_ptr();
            (self.functions.address_space_map)(space, physical, &mut mapped, writes, 0)
        };
        if host.is_null() {
            return None;
        }
        let region = std::ptr::null_mut();
        let mut mapping =
            Mapping { space: self, host, len: mapped, writes, written: 0, region, offset: 0 };
        // SAFETY: only looks whether the address is in some block of RAM or ROM.
        mapping.region =
            unsafe { (self.functions.memory_region_from_host)(host, &mut mapping.offset) };
        (!mapping.region.is_null()).then_some(mapping)
    }
}

/// Mapped memory, unmapped when it is dropped, even by a panic.
pub(super) struct Mapping {
    space: PhysicalSpace,
    pub host: *mut c_void,
    /// The number of mapped bytes, which may be more than were requested.
    pub len: u64,
    writes: bool,
    /// The number of bytes to report as written when the memory is unmapped.
    pub written: u64,
    /// The block of RAM or ROM that contains it.
    pub region: *mut MemoryRegion,
    /// Its offset in that block, in bytes.
    pub offset: u64,
}

impl Drop for Mapping {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: what `map` gave, once.
        unsafe {
            let space = self.space.space.address_space_memory.as_ptr();
            let unmap = self.space.functions.address_space_unmap;
            unmap(space, self.host, self.len, self.writes, self.written);
        }
    }
}
