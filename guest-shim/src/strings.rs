//! The loop around the string calls `insb` ... `outsl`.
//!
//! A host may move only some of the elements, and leaves the rest in the count. It stops at a page that
//! it cannot use, which this code then touches. If that does not help, this code moves one element by
//! the scalar call and its own load or store. After any other answer, the CPU's `rep` moves the rest.

use crate::abi::{CallWord, status};
use crate::machine::Machine;
use crate::port_io::PortIo;
use crate::touch;
use crate::value::Value;

/// String I/O on a machine.
pub(crate) struct StringIo<'m, M, P> {
    pub(crate) machine: &'m M,
    /// Added to a pointer, gives the linear address.
    pub(crate) segment_base: usize,
    /// Moves single elements.
    pub(crate) scalars: &'m P,
}

impl<M: Machine, P: PortIo> StringIo<'_, M, P> {
    /// Fills a buffer from a port.
    ///
    /// # Safety
    ///
    /// Reading the port may do anything that its device does on a read. The buffer must be writable.
    pub(crate) unsafe fn input<T: Value>(&self, port: u16, buffer: *mut T, count: usize) {
        let element = |at: *mut T| {
            // SAFETY: `at` is an element of the buffer; the caller answers for the rest.
            unsafe { at.write_volatile(T::read_from(self.scalars, port)) }
        };
        let rest = |at: *mut T, left: usize| {
            // SAFETY: these are the last elements of the buffer; the caller answers for the rest.
            unsafe {
                let buffer = core::slice::from_raw_parts_mut(at, left);
                T::read_string(self.machine.instructions(), port, buffer);
            }
        };
        let word = CallWord::new(T::INS, 0, port);
        // SAFETY: the call writes to the buffer alone; the caller answers for the device.
        unsafe { self.run(word, buffer, count, touch::for_writing, element, rest) };
    }

    /// Writes a buffer to a port.
    ///
    /// # Safety
    ///
    /// Writing the port may do anything that its device does on a write. The buffer must be readable.
    pub(crate) unsafe fn output<T: Value>(&self, port: u16, buffer: *const T, count: usize) {
        let element = |at: *mut T| {
            // SAFETY: `at` is an element of the buffer; the caller answers for the rest.
            unsafe { at.read_volatile().write_to(self.scalars, port) }
        };
        let rest = |at: *mut T, left: usize| {
            // SAFETY: these are the last elements of the buffer; the caller answers for the rest.
            unsafe {
                let buffer = core::slice::from_raw_parts(at, left);
                T::write_string(self.machine.instructions(), port, buffer);
            }
        };
        let word = CallWord::new(T::OUTS, 0, port);
        let touch = |byte: *mut u8| {
            // SAFETY: the byte is in the buffer, which is readable.
            unsafe { touch::for_reading(byte) }
        };
        // SAFETY: the call reads the buffer alone; the caller answers for the device.
        unsafe { self.run(word, buffer.cast_mut(), count, touch, element, rest) };
    }

    /// Repeats a string's call until no element is left.
    ///
    /// # Safety
    ///
    /// The call must be allowed to do what it does with `count` elements from `buffer` on, and `touch`
    /// to do what it does with their bytes.
    unsafe fn run<T>(
        &self,
        word: CallWord,
        buffer: *mut T,
        count: usize,
        touch: unsafe fn(*mut u8),
        element: impl Fn(*mut T),
        rest: impl Fn(*mut T, usize),
    ) {
        let mut next = buffer;
        let mut left = count;
        // True if the next element has been touched.
        let mut touched = false;
        while left != 0 {
            let mut edx = next.expose_provenance().wrapping_add(self.segment_base);
            let mut ecx = left;
            // SAFETY: the caller answers for the call.
            let status = unsafe { self.machine.call(word, &mut edx, &mut ecx) };
            let code = status.code();
            // EDX shows the same progress as ECX.
            let moved = match code {
                Some(status::OK | status::PAGE | status::DECLINED) => left - ecx.min(left),
                _ => 0,
            };
            // SAFETY: at most `left` elements were moved.
            next = unsafe { next.add(moved) };
            left -= moved;
            touched &= moved == 0;
            match code {
                Some(status::OK) if moved != 0 => {}
                Some(status::PAGE) if left != 0 && !touched => {
                    // An element may span two pages.
                    let last = size_of::<T>() - 1;
                    // SAFETY: these are the first and the last byte of an element.
                    unsafe {
                        touch(next.cast());
                        touch(next.cast::<u8>().add(last));
                    }
                    touched = true;
                }
                Some(status::OK | status::PAGE) if left != 0 => {
                    element(next);
                    // SAFETY: at least one element was left.
                    next = unsafe { next.add(1) };
                    left -= 1;
                    touched = false;
                }
                _ => {
                    rest(next, left);
                    left = 0;
                }
            }
        }
    }
}
