//! A piece of guest RAM that stays mapped, to be read and written at the cost of a load or a store.
//!
//! It remains the same memory, even if the guest's page tables or QEMU's memory map change later. Written
//! memory is marked for migration; code translated from it is discarded only when it is unmapped.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};

use super::mapping::Mapping;
use super::symbols::DirtyTracking;

/// Guest RAM that stays mapped.
pub struct MappedRam {
    mapping: Mapping,
    len: usize,
    tracking: DirtyTracking,
}

// SAFETY: any thread may call QEMU's functions for it, and the memory is used by atomic operations
// alone.
unsafe impl Send for MappedRam {}

impl MappedRam {
    pub(super) fn new(mapping: Mapping, len: usize, tracking: DirtyTracking) -> MappedRam {
        MappedRam { mapping, len, tracking }
    }

    #[inline]
    fn at(&self, offset: usize, size: usize) -> *mut c_void {
        assert!(offset + size <= self.len && offset.is_multiple_of(size), "within what is mapped");
        self.mapping.host.wrapping_byte_add(offset)
    }

    /// Loads the 4 bytes at an offset, in bytes, in the host's byte order (x86's: little-endian).
    ///
    /// Relaxed. The vCPU whose callback calls this sees its own stores, since they were made on this
    /// thread. Loads are not ordered with stores of other vCPUs.
    ///
    /// # Panics
    ///
    /// If the offset is not a multiple of 4, or the bytes are not all mapped.
    #[inline]
    pub fn load_u32(&self, offset: usize) -> u32 {
        // SAFETY: within the memory and aligned. It is atomic, since other vCPUs may write it meanwhile.
        unsafe { (*self.at(offset, 4).cast::<AtomicU32>()).load(Ordering::Relaxed) }
    }

    /// Loads the 8 bytes at an offset, in bytes. As [`MappedRam::load_u32`].
    ///
    /// # Panics
    ///
    /// If the offset is not a multiple of 8, or the bytes are not all mapped.
    #[inline]
    pub fn load_u64(&self, offset: usize) -> u64 {
        // SAFETY: as in `load_u32`.
        unsafe { (*self.at(offset, 8).cast::<AtomicU64>()).load(Ordering::Relaxed) }
    }

    /// Stores 4 bytes at an offset, in bytes.
    ///
    /// Release. A vCPU that sees this store sees those before it too, as x86 guests expect of all stores,
    /// and as a host with a weaker memory model does not promise of relaxed ones.
    ///
    /// # Panics
    ///
    /// If the offset is not a multiple of 4, or the bytes are not all mapped.
    #[inline]
    pub fn store_u32(&mut self, offset: usize, value: u32) {
        // SAFETY: as in `load_u32`.
        unsafe { (*self.at(offset, 4).cast::<AtomicU32>()).store(value, Ordering::Release) };
        self.stored(offset, 4);
    }

    /// Stores 8 bytes at an offset, in bytes. As [`MappedRam::store_u32`].
    ///
    /// # Panics
    ///
    /// If the offset is not a multiple of 8, or the bytes are not all mapped.
    pub fn store_u64(&mut self, offset: usize, value: u64) {
        // SAFETY: as in `load_u32`.
        unsafe { (*self.at(offset, 8).cast::<AtomicU64>()).store(value, Ordering::Release) };
        self.stored(offset, 8);
    }

    /// Marks bytes that have just been stored.
    #[inline]
    fn stored(&mut self, offset: usize, size: u64) {
        // QEMU sets the variable before it copies a page for the first time: a store that nobody tracks
        // must be in that copy. So the compiler must not load the variable before the store. The host may
        // do so, on x86 as on arm64, for as long as the store waits in the core's store buffer; a fence
        // would cost more than the rest of a call. QEMU takes far longer, with locks and a walk over all
        // blocks of RAM, from setting the variable to copying: in practice, not by the memory model.
        compiler_fence(Ordering::SeqCst);
        // SAFETY: QEMU's variable, for ever. Relaxed: the number is all that it tells.
        let wanted =
            unsafe { (*self.tracking.global_dirty_tracking.as_ptr()).load(Ordering::Relaxed) };
        if wanted != 0 {
            self.mark(offset, size);
        }
        // Unmapping reports it as well, by which QEMU throws translated code away.
        self.mapping.written = self.len as u64;
    }

    #[cold]
    fn mark(&self, offset: usize, size: u64) {
        let offset = self.mapping.offset + offset as u64;
        // SAFETY: within the block of RAM, which QEMU keeps as long as it is mapped.
        unsafe { (self.tracking.memory_region_set_dirty)(self.mapping.region, offset, size) };
    }
}
