//! A piece of guest RAM that is kept at hand, to be read and written at the price of a load or a store.
//!
//! It is the place in memory that it was when it was taken, whatever the guest's page tables or QEMU's
//! memory map say later. What is written is marked for migration; translated code of it is not thrown away
//! before it is given back.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};

use super::lookup::lookup_export;
use super::ram::Mapped;

/// How QEMU is told what was written.
#[derive(Clone, Copy)]
pub(super) struct Written {
    /// `global_dirty_tracking`: not 0 while QEMU wants to know.
    wanted: *const AtomicU32,
    /// `memory_region_set_dirty`.
    set_dirty: unsafe extern "C" fn(*mut c_void, u64, u64),
}

impl Written {
    pub fn open() -> Option<Written> {
        let set_dirty = lookup_export(c"memory_region_set_dirty")?;
        Some(Written {
            wanted: lookup_export(c"global_dirty_tracking")?.cast(),
            // SAFETY: QEMU's function of this name, of the type that it has in `system/memory.h`.
            set_dirty: unsafe {
                std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void, u64, u64)>(
                    set_dirty,
                )
            },
        })
    }
}

/// Guest RAM that is held.
pub struct MappedRam {
    mapped: Mapped,
    len: usize,
    written: Written,
}

// SAFETY: QEMU's functions behind it may be called on any thread, and the memory is used by atomic
// operations alone.
unsafe impl Send for MappedRam {}

impl MappedRam {
    pub(super) fn new(mapped: Mapped, len: usize, written: Written) -> MappedRam {
        MappedRam { mapped, len, written }
    }

    fn at(&self, offset: usize, size: usize) -> *mut c_void {
        assert!(offset + size <= self.len && offset.is_multiple_of(size), "within what is held");
        self.mapped.host.wrapping_byte_add(offset)
    }

    /// Reads 4 bytes at a multiple of 4.
    #[inline]
    pub fn load_u32(&self, offset: usize) -> u32 {
        // SAFETY: within the memory, aligned as it is; the guest may write it meanwhile.
        unsafe { (*self.at(offset, 4).cast::<AtomicU32>()).load(Ordering::Relaxed) }
    }

    /// Reads 8 bytes at a multiple of 8.
    #[inline]
    pub fn load_u64(&self, offset: usize) -> u64 {
        // SAFETY: as in `load_u32`.
        unsafe { (*self.at(offset, 8).cast::<AtomicU64>()).load(Ordering::Relaxed) }
    }

    /// Writes 4 bytes at a multiple of 4.
    #[inline]
    pub fn store_u32(&mut self, offset: usize, value: u32) {
        // SAFETY: as in `load_u32`.
        unsafe { (*self.at(offset, 4).cast::<AtomicU32>()).store(value, Ordering::Release) };
        // QEMU begins to track before it copies a page for the first time. So the store is in the copy, or
        // is tracked.
        compiler_fence(Ordering::SeqCst);
        // SAFETY: QEMU's variable.
        if unsafe { (*self.written.wanted).load(Ordering::Relaxed) } != 0 {
            self.mark(offset);
        }
        // It was written when it is given back, too.
        self.mapped.done = self.len as u64;
    }

    #[cold]
    fn mark(&self, offset: usize) {
        let offset = self.mapped.offset + offset as u64;
        // SAFETY: within the block of RAM, which QEMU keeps as long as it is mapped.
        unsafe { (self.written.set_dirty)(self.mapped.region, offset, 4) };
    }
}
