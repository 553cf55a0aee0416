//! What paravirtualized port I/O needs of the machine: instructions that somebody may answer, and the
//! processor's port instructions.
//!
//! There is one machine, [`Real`], and in `mailbox` the same with another way for calls of one element.
//! The tests bring a simulated host.

use crate::abi::{CallWord, Status};
use crate::hypercall;
use crate::port_io::{Native, PortIo};

/// A machine.
///
/// # Safety
///
/// The methods are unsafe to call: what a call does is up to whoever makes it, as for
/// [`hypercall::call`].
pub(crate) trait Machine {
    /// How instructions are executed on it.
    type Instructions: PortIo;

    /// Makes a call.
    unsafe fn call(&self, word: CallWord, edx: &mut usize, ecx: &mut usize) -> Status;

    /// The way around calls.
    fn instructions(&self) -> &Self::Instructions;

    /// Makes a call that uses EAX alone.
    #[inline]
    unsafe fn call_plain(&self, word: CallWord) -> Status {
        // SAFETY: the same is asked of the caller.
        unsafe { self.call(word, &mut 0, &mut 0) }
    }

    /// Makes a call that takes a value in EDX.
    #[inline]
    unsafe fn call_write(&self, word: CallWord, value: u32) -> Status {
        // SAFETY: the same is asked of the caller.
        unsafe { self.call(word, &mut (value as usize), &mut 0) }
    }

    /// Makes a call that gives a value in EDX.
    #[inline]
    unsafe fn call_read(&self, word: CallWord) -> (Status, u32) {
        let mut edx = 0;
        // SAFETY: the same is asked of the caller.
        let status = unsafe { self.call(word, &mut edx, &mut 0) };
        (status, edx as u32)
    }
}

/// A machine whose processor may have a mailbox.
///
/// # Safety
///
/// As for [`Machine`].
pub(crate) trait Rings: Machine {
    /// Registers the mailbox at a linear address.
    unsafe fn register(&self, mailbox: usize);

    /// Makes the call that is in the processor's mailbox.
    unsafe fn ring(&self);
}

/// The machine that this code runs on.
pub(crate) struct Real;

impl Machine for Real {
    type Instructions = Native;

    #[inline]
    unsafe fn call(&self, word: CallWord, edx: &mut usize, ecx: &mut usize) -> Status {
        // SAFETY: the same is asked of the caller.
        unsafe { hypercall::call(word, edx, ecx) }
    }

    #[inline]
    fn instructions(&self) -> &Native {
        &Native
    }

    #[inline]
    unsafe fn call_plain(&self, word: CallWord) -> Status {
        // SAFETY: the same is asked of the caller.
        unsafe { hypercall::call_plain(word) }
    }

    #[inline]
    unsafe fn call_write(&self, word: CallWord, value: u32) -> Status {
        // SAFETY: the same is asked of the caller.
        unsafe { hypercall::call_write(word, value) }
    }

    #[inline]
    unsafe fn call_read(&self, word: CallWord) -> (Status, u32) {
        // SAFETY: the same is asked of the caller.
        unsafe { hypercall::call_read(word) }
    }
}

impl Rings for Real {
    #[inline]
    unsafe fn register(&self, mailbox: usize) {
        // SAFETY: the same is asked of the caller.
        unsafe { hypercall::register(mailbox) }
    }

    #[inline]
    unsafe fn ring(&self) {
        // SAFETY: the same is asked of the caller.
        unsafe { hypercall::ring() }
    }
}
