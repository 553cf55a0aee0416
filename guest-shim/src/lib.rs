//! Paravirtual port I/O for x86 guests, with Linux's names and argument order: hypercalls if a host
//! answers them, and the CPU's own instructions everywhere else.
//!
//! `no_std`, without allocation or dependencies, for 32 and 64-bit code in any ring. A guest built on
//! this crate runs unchanged under QEMU with the plugin pvio, under any other hypervisor, and on
//! hardware. The hypercall is a long NOP, which every CPU since the Pentium Pro has, and which a host
//! may intercept. The result of each call shows whether a host did.
//!
//! ```no_run
//! // Write a byte to COM1's transmit register.
//! // SAFETY: a UART is at 0x3f8, and this code may use ports.
//! unsafe { pvio_guest::outb(b'x', 0x3f8) };
//! ```
//!
//! | | |
//! | --- | --- |
//! | [`inb`] ... [`outsl`] | port I/O, by hypercall if a host answers |
//! | [`native`] | only the CPU's instructions |
//! | [`PortIo`], [`Native`], [`Hypercall`], [`detect`] | write a driver once, choose the kind of port I/O at start |
//! | [`Mailbox`] | port I/O by calls through memory, also where QEMU's plugins cannot write registers |
//! | [`Port`], [`PortReadOnly`], [`PortWriteOnly`] | ports in the shape of the `x86_64` crate's |
//! | [`batch`] | many operations by one call |
//! | [`control`] | probe, exit, log, windows of the statistics |
//! | [`files`] | files of a directory that the host shares |
//! | [`hypercall`], [`abi`] | the bare instructions, and the meaning of their numbers |
//!
//! For other architectures only [`abi`] and [`CallError`] are built: a host needs them.
//!
//! # Requirements
//!
//! If the shim leaves an access to the CPU, the caller needs the permission for it: CPL <= IOPL, or a TSS that
//! permits the port; otherwise the CPU raises #GP. A host may let user code make hypercalls (pvio does with
//! `hypercall=any`): such an access then needs no permission from the kernel.
//!
//! Buffers are passed to the host by linear addresses. With flat segments a pointer is a linear address; if the
//! base of the data segment is not zero, pass it in [`Hypercall::segment_base`] and
//! [`Batch::with_segment_base`](batch::Batch::with_segment_base). A page fault may interrupt a string,
//! as it may interrupt `rep`: the faulting access is then the shim's own, and the guest's handler sees
//! an ordinary one.

#![no_std]
#![cfg_attr(
    not(any(target_arch = "x86", target_arch = "x86_64")),
    expect(rustdoc::broken_intra_doc_links, reason = "the links are to what x86 alone has")
)]

#[cfg(any(test, fuzzing))]
extern crate std;

pub mod abi;
mod error;

pub use error::CallError;

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
pub mod batch;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
pub mod control;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod detect;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
pub mod files;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod functions;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
pub mod hypercall;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod machine;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod mailbox;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
pub mod native;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod paravirt;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod port;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod port_io;
#[cfg(all(any(test, fuzzing), any(target_arch = "x86", target_arch = "x86_64")))]
mod simulated_files;
#[cfg(all(any(test, fuzzing), any(target_arch = "x86", target_arch = "x86_64")))]
#[cfg_attr(fuzzing, expect(dead_code, reason = "the tests use all of it"))]
mod simulation;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod strings;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod touch;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod value;

/// Entry points for fuzzing. `tests/fuzz` calls them.
#[cfg(all(fuzzing, any(target_arch = "x86", target_arch = "x86_64")))]
pub mod fuzzing {
    pub use crate::batch::fuzzing::{shim, shim_and_liar};
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
pub use self::{
    detect::{Detected, Features, Host, detect},
    functions::{inb, inl, insb, insl, insw, inw, outb, outl, outsb, outsl, outsw, outw},
    mailbox::Mailbox,
    paravirt::Hypercall,
    port::{
        Access, Port, PortGeneric, PortReadAccess, PortReadOnly, PortWriteAccess, PortWriteOnly,
        ReadOnlyAccess, ReadWriteAccess, WriteOnlyAccess,
    },
    port_io::{Native, PortIo},
    value::Value,
};
