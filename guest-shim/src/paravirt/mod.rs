//! Port I/O by hypercall, with the CPU's instruction as the fallback.
//!
//! Every access makes a separate call and checks its answer, because the machine may have been saved
//! under one host and restored under another since the last access.

use crate::abi::{CallWord, call};
use crate::machine::{Machine, Real};
use crate::port_io::{PortIo, port_io};
use crate::strings::StringIo;

/// Hypercalls, and the CPU's instruction if a call fails: unanswered, declined, denied.
/// So it works on every machine.
///
/// Hosts take linear addresses. With flat segments a pointer is a linear address: [`Hypercall::FLAT`], the
/// default, which the functions at the top of the crate use. Code whose data segment has another base
/// sets [`segment_base`](Hypercall::segment_base).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hypercall {
    /// The base of DS, which must be that of ES. Added to a pointer, it gives the linear address.
    pub segment_base: usize,
}

impl Hypercall {
    /// For segments whose base is zero.
    pub const FLAT: Hypercall = Hypercall { segment_base: 0 };

    #[inline]
    fn paravirt(self) -> Paravirt<'static, Real> {
        Paravirt { machine: &Real, segment_base: self.segment_base }
    }
}

port_io!(impl [] Hypercall, |this| this.paravirt());

/// [`Hypercall`] on any machine.
pub(crate) struct Paravirt<'m, M> {
    pub(crate) machine: &'m M,
    pub(crate) segment_base: usize,
}

impl<M: Machine> Paravirt<'_, M> {
    #[inline]
    fn strings(&self) -> StringIo<'_, M, Self> {
        StringIo { machine: self.machine, segment_base: self.segment_base, scalars: self }
    }
}

macro_rules! strings {
    ($($ins:ident $outs:ident $type:ident;)*) => {
        $(
            #[inline]
            unsafe fn $ins(&self, port: u16, buffer: &mut [$type]) {
                // SAFETY: the buffer is a slice; the caller answers for the device.
                unsafe { self.strings().input(port, buffer.as_mut_ptr(), buffer.len()) }
            }

            #[inline]
            unsafe fn $outs(&self, port: u16, buffer: &[$type]) {
                // SAFETY: the buffer is a slice; the caller answers for the device.
                unsafe { self.strings().output(port, buffer.as_ptr(), buffer.len()) }
            }
        )*
    };
}

impl<M: Machine> PortIo for Paravirt<'_, M> {
    #[inline]
    unsafe fn inb(&self, port: u16) -> u8 {
        // SAFETY: the caller answers for the access.
        unsafe {
            let status = self.machine.call_plain(CallWord::new(call::INB, 0, port));
            if status.is_ok() { status.data() as u8 } else { self.machine.instructions().inb(port) }
        }
    }

    #[inline]
    unsafe fn inw(&self, port: u16) -> u16 {
        // SAFETY: the caller answers for the access.
        unsafe {
            let status = self.machine.call_plain(CallWord::new(call::INW, 0, port));
            if status.is_ok() {
                status.data() as u16
            } else {
                self.machine.instructions().inw(port)
            }
        }
    }

    #[inline]
    unsafe fn inl(&self, port: u16) -> u32 {
        // SAFETY: the caller answers for the access.
        unsafe {
            let (status, value) = self.machine.call_read(CallWord::new(call::INL, 0, port));
            if status.is_ok() { value } else { self.machine.instructions().inl(port) }
        }
    }

    #[inline]
    unsafe fn outb(&self, value: u8, port: u16) {
        // SAFETY: the caller answers for the access.
        unsafe {
            let status = self.machine.call_plain(CallWord::new(call::OUTB, value, port));
            if !status.is_ok() {
                self.machine.instructions().outb(value, port);
            }
        }
    }

    #[inline]
    unsafe fn outw(&self, value: u16, port: u16) {
        // SAFETY: the caller answers for the access.
        unsafe {
            let status = self.machine.call_write(CallWord::new(call::OUTW, 0, port), value.into());
            if !status.is_ok() {
                self.machine.instructions().outw(value, port);
            }
        }
    }

    #[inline]
    unsafe fn outl(&self, value: u32, port: u16) {
        // SAFETY: the caller answers for the access.
        unsafe {
            let status = self.machine.call_write(CallWord::new(call::OUTL, 0, port), value);
            if !status.is_ok() {
                self.machine.instructions().outl(value, port);
            }
        }
    }

    strings! {
        insb outsb u8;
        insw outsw u16;
        insl outsl u32;
    }
}

#[cfg(test)]
pub(crate) mod tests;
