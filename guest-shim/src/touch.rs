//! Touching memory that the host could not judge, so that the guest's own page-fault handler sees to it.
//!
//! A page may be absent, or never have been read or written; the host changes no page tables. An access
//! of the guest's own has the processor do that, or the handler. Nothing here knows of ports.

use core::arch::asm;

/// Has the processor read a byte.
///
/// # Safety
///
/// It must be readable.
#[inline]
pub(crate) unsafe fn for_reading(byte: *const u8) {
    // SAFETY: the same is asked of the caller.
    unsafe { byte.read_volatile() };
}

/// Has the processor write a byte without changing it, and without losing what somebody else may be
/// writing to it.
///
/// # Safety
///
/// It must be writable.
#[inline]
pub(crate) unsafe fn for_writing(byte: *mut u8) {
    // An atomic of Rust's would do, had the compiler not the right to make a mere fence of it.
    // SAFETY: the byte keeps its value; that it can be written is asked of the caller.
    unsafe { asm!("lock or byte ptr [{byte}], 0", byte = in(reg) byte, options(nostack)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_changes() {
        let mut bytes = [0, 0x5a, 0xff];
        // SAFETY: the array can be read and written.
        unsafe {
            for_writing(&mut bytes[1]);
            for_reading(&bytes[2]);
        }
        assert_eq!(bytes, [0, 0x5a, 0xff]);
    }
}
