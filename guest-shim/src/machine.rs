//! An abstraction of the machine: instructions that a host may answer, and the CPU's own port instructions.
//!
//! [`Real`] is the machine that this code runs on. `mailbox` wraps it, and the tests simulate one.

use crate::abi::{CallWord, Status};
use crate::hypercall;
use crate::port_io::{Native, PortIo};

/// A machine.
///
/// # Safety
///
/// The methods are unsafe to call: the caller answers for what the call does, as for
/// [`hypercall::call`].
pub(crate) trait Machine {
    /// The port instructions of this machine.
    type Instructions: PortIo;

    /// Makes a call.
    unsafe fn call(&self, word: CallWord, edx: &mut usize, ecx: &mut usize) -> Status;

    /// The port instructions.
    fn instructions(&self) -> &Self::Instructions;

    /// Makes a call that uses EAX alone.
    #[inline]
    unsafe fn call_plain(&self, word: CallWord) -> Status {
        // SAFETY: the caller answers for the call.
        unsafe { self.call(word, &mut 0, &mut 0) }
    }

    /// Makes a call that takes a value in EDX.
    #[inline]
    unsafe fn call_write(&self, word: CallWord, value: u32) -> Status {
        // SAFETY: the caller answers for the call.
        unsafe { self.call(word, &mut (value as usize), &mut 0) }
    }

    /// Makes a call that returns a value in EDX.
    #[inline]
    unsafe fn call_read(&self, word: CallWord) -> (Status, u32) {
        let mut edx = 0;
        // SAFETY: the caller answers for the call.
        let status = unsafe { self.call(word, &mut edx, &mut 0) };
        (status, edx as u32)
    }
}

/// A machine whose CPU may have a mailbox.
///
/// # Safety
///
/// The same as for [`Machine`].
pub(crate) trait MailboxMachine: Machine {
    /// Registers the mailbox at a linear address.
    unsafe fn register_mailbox(&self, mailbox: usize);

    /// Makes the call in the CPU's mailbox.
    unsafe fn ring_doorbell(&self);
}

/// The machine that this code runs on.
pub(crate) struct Real;

impl Machine for Real {
    type Instructions = Native;

    #[inline]
    unsafe fn call(&self, word: CallWord, edx: &mut usize, ecx: &mut usize) -> Status {
        // SAFETY: the caller answers for the call.
        unsafe { hypercall::call(word, edx, ecx) }
    }

    #[inline]
    fn instructions(&self) -> &Native {
        &Native
    }

    #[inline]
    unsafe fn call_plain(&self, word: CallWord) -> Status {
        // SAFETY: the caller answers for the call.
        unsafe { hypercall::call_plain(word) }
    }

    #[inline]
    unsafe fn call_write(&self, word: CallWord, value: u32) -> Status {
        // SAFETY: the caller answers for the call.
        unsafe { hypercall::call_write(word, value) }
    }

    #[inline]
    unsafe fn call_read(&self, word: CallWord) -> (Status, u32) {
        // SAFETY: the caller answers for the call.
        unsafe { hypercall::call_read(word) }
    }
}

impl MailboxMachine for Real {
    #[inline]
    unsafe fn register_mailbox(&self, mailbox: usize) {
        // SAFETY: the caller answers for the mailbox.
        unsafe { hypercall::register_mailbox(mailbox) }
    }

    #[inline]
    unsafe fn ring_doorbell(&self) {
        // SAFETY: the caller answers for the call in the mailbox.
        unsafe { hypercall::ring_doorbell() }
    }
}
