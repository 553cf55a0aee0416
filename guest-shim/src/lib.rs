//! Paravirtual port I/O for x86 guests: Linux's names and argument order, hypercalls where somebody
//! listens, the processor's own instructions everywhere else.
//!
//! `no_std`, without allocation or dependencies, for 32 and 64-bit code in any ring. A guest built on
//! this crate runs unchanged under QEMU with the plugin pvio, under any other hypervisor, and on
//! hardware. The hypercall is an instruction that does nothing (a long NOP, which every processor
//! since the Pentium Pro has) and that a host may notice; each call by itself shows whether one has.
//!
//! ```no_run
//! // Write a byte to COM1's transmit register.
//! // SAFETY: a UART is at 0x3f8, and this code may use ports.
//! unsafe { pvio_guest::outb(b'x', 0x3f8) };
//! ```
//!
//! | | |
//! | --- | --- |
//! | [`inb`] ... [`outsl`] | port I/O, by hypercall where that works |
//! | [`native`] | the instructions alone |
//! | [`PortIo`], [`Native`], [`Hypercall`], [`detect`] | a driver is written once, and told the way when it starts |
//! | [`Mailbox`] | calls of one element through memory, several times as fast under QEMU |
//! | [`Port`], [`PortReadOnly`], [`PortWriteOnly`] | ports in the shape of the `x86_64` crate's |
//! | [`batch`] | many operations by one call |
//! | [`control`] | probe, exit, log, windows of the statistics |
//! | [`hypercall`], [`abi`] | the bare instructions, and what their numbers mean |
//!
//! # What a caller must know
//!
//! Where an access is left to the processor, the caller must be allowed to make it: CPL <= IOPL, or a
//! TSS that permits the port; else the processor raises #GP. A host may let user code make hypercalls
//! (pvio does under `hypercall=any`): such an access then needs no permission from the kernel.
//!
//! Buffers are named to the host by linear addresses. With flat segments a pointer is one; where the
//! base of the data segment is another, [`Hypercall::segment_base`] and
//! [`Batch::with_segment_base`](batch::Batch::with_segment_base) take it. A string may be interrupted
//! by a page fault, as `rep` may: the access that faults is then the shim's own, and the guest's
//! handler sees an ordinary one.

#![no_std]
#![cfg(any(target_arch = "x86", target_arch = "x86_64"))]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod batch;
pub mod control;
mod detect;
mod error;
pub mod hypercall;
mod machine;
mod mailbox;
pub mod native;
mod paravirt;
mod port;
mod port_io;
#[cfg(test)]
mod simulation;
mod strings;
mod touch;
mod value;

pub use detect::{Detected, Features, Host, detect};
pub use error::CallError;
pub use mailbox::Mailbox;
pub use port::{
    Access, Port, PortGeneric, PortReadAccess, PortReadOnly, PortWriteAccess, PortWriteOnly,
    ReadOnlyAccess, ReadWriteAccess, WriteOnlyAccess,
};
pub use port_io::{Hypercall, Native, PortIo};
pub use value::Value;

macro_rules! functions {
    ($($in:ident $out:ident $ins:ident $outs:ident $type:ident;)*) => {
        $(
            #[doc = concat!("Reads a `", stringify!($type), "` from a port.")]
            ///
            /// # Safety
            ///
            /// Reading a port may do anything that its device does on a read.
            #[inline]
            pub unsafe fn $in(port: u16) -> $type {
                // SAFETY: the same is asked of the caller.
                unsafe { Hypercall::FLAT.$in(port) }
            }

            #[doc = concat!("Writes a `", stringify!($type), "` to a port.")]
            ///
            /// # Safety
            ///
            /// Writing a port may do anything that its device does on a write.
            #[inline]
            pub unsafe fn $out(value: $type, port: u16) {
                // SAFETY: the same is asked of the caller.
                unsafe { Hypercall::FLAT.$out(value, port) }
            }

            #[doc = concat!("Fills a slice of `", stringify!($type), "` from a port.")]
            ///
            /// # Safety
            ///
            /// Reading a port may do anything that its device does on a read.
            #[inline]
            pub unsafe fn $ins(port: u16, buffer: &mut [$type]) {
                // SAFETY: the same is asked of the caller.
                unsafe { Hypercall::FLAT.$ins(port, buffer) }
            }

            #[doc = concat!("Writes a slice of `", stringify!($type), "` to a port.")]
            ///
            /// # Safety
            ///
            /// Writing a port may do anything that its device does on a write.
            #[inline]
            pub unsafe fn $outs(port: u16, buffer: &[$type]) {
                // SAFETY: the same is asked of the caller.
                unsafe { Hypercall::FLAT.$outs(port, buffer) }
            }
        )*
    };
}

functions! {
    inb outb insb outsb u8;
    inw outw insw outsw u16;
    inl outl insl outsl u32;
}
