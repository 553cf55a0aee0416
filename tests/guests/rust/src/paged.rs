//! Memory whose pages are absent until they are touched, and absent again when a test unmaps them.
//!
//! The page-fault handler in `entry.S` maps each page to its own frame, so that what was written to it
//! is still there when it is mapped again. A host cannot check the rights of a page that is absent or not accessed.

use core::arch::asm;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The first address; `entry.S` has the same number.
const START: usize = 0x20_0000;
const PAGES: usize = 16;
/// The size of a page.
pub const PAGE: usize = 4096;

const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;

unsafe extern "C" {
    safe static paged_table: [AtomicU64; 512];
    safe static page_faults: AtomicU32;
}

/// Returns the number of pages that were mapped because they were touched.
pub fn faults() -> u32 {
    page_faults.load(Relaxed)
}

/// Makes every page absent.
pub fn unmap() {
    change(|_| 0);
}

/// Clears the accessed and dirty bits of all pages.
pub fn forget() {
    change(|entry| entry & !(ACCESSED | DIRTY));
}

fn change(new: impl Fn(u64) -> u64) {
    for (index, entry) in paged_table[..PAGES].iter().enumerate() {
        entry.store(new(entry.load(Relaxed)), Relaxed);
        let address = START + index * PAGE;
        // SAFETY: the processor looks at the table again, which maps the page as before or not at all;
        // then the handler maps it as before.
        unsafe { asm!("invlpg [{address}]", address = in(reg) address, options(nostack)) };
    }
}

/// Some of this memory, from an offset on.
///
/// # Safety
///
/// No two slices at a time may have elements in common.
pub unsafe fn slice<T>(offset: usize, count: usize) -> &'static mut [T] {
    assert!(offset + count * size_of::<T>() <= PAGES * PAGE);
    // SAFETY: the memory is there for everybody who touches it, is nobody else's (asked of the
    // caller), and what T's this guest has are good with any bytes.
    unsafe {
        core::slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut(START + offset), count)
    }
}
