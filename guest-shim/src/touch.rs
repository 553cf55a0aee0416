//! Touches memory that the host could not use.
//!
//! The host does not change page tables. An access by the guest makes the CPU set the accessed and dirty
//! bits, or run the guest's page fault handler.

use core::arch::asm;

/// Reads a byte.
///
/// # Safety
///
/// The byte must be readable.
#[inline]
pub(crate) unsafe fn for_reading(byte: *const u8) {
    // SAFETY: the caller says that the byte is readable.
    unsafe { byte.read_volatile() };
}

/// Writes a byte without changing it, and without losing a concurrent write.
///
/// # Safety
///
/// The byte must be writable.
#[inline]
pub(crate) unsafe fn for_writing(byte: *mut u8) {
    // Not an atomic of Rust's: the compiler may turn that into a fence.
    // SAFETY: the byte keeps its value, and the caller says that it is writable.
    unsafe { asm!("lock or byte ptr [{byte}], 0", byte = in(reg) byte, options(nostack)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_changes_no_byte() {
        let mut bytes = [0, 0x5a, 0xff];
        // SAFETY: the array can be read and written.
        unsafe {
            for_writing(&mut bytes[1]);
            for_reading(&bytes[2]);
        }
        assert_eq!(bytes, [0, 0x5a, 0xff]);
    }
}
