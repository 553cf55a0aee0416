//! Port I/O as a trait: a driver is written once, and its kind of port I/O is chosen when it starts.
//!
//! The implementations are [`Native`], the CPU's instructions, [`Hypercall`](crate::Hypercall), and
//! [`Mailbox`](crate::Mailbox). [`detect`](crate::detect) chooses between the first two.

use crate::native;

/// The twelve operations of port I/O, with Linux's names and order of arguments.
///
/// Usable as a trait object: `&dyn PortIo`.
///
/// ```no_run
/// use pvio_guest::{Native, PortIo};
///
/// /// Reads a byte of a PC's CMOS.
/// fn cmos<P: PortIo + ?Sized>(io: &P, index: u8) -> u8 {
///     // SAFETY: a PC has its CMOS at these ports, and reading it changes nothing.
///     unsafe {
///         io.outb(index, 0x70);
///         io.inb(0x71)
///     }
/// }
///
/// let best = pvio_guest::detect();
/// assert_eq!(cmos(&best, 0x0a), cmos(&Native, 0x0a));
/// assert_eq!(cmos(best.port_io(), 0x0a), cmos(&Native as &dyn PortIo, 0x0a));
/// ```
///
/// # Safety
///
/// All methods are unsafe to call for the same reason: an access to a port may do anything that the
/// device there does, for example write to memory.
#[expect(clippy::missing_safety_doc, reason = "one reason for all of them, above")]
pub trait PortIo {
    /// Reads a byte.
    unsafe fn inb(&self, port: u16) -> u8;
    /// Reads 16 bits.
    unsafe fn inw(&self, port: u16) -> u16;
    /// Reads 32 bits.
    unsafe fn inl(&self, port: u16) -> u32;
    /// Writes a byte.
    unsafe fn outb(&self, value: u8, port: u16);
    /// Writes 16 bits.
    unsafe fn outw(&self, value: u16, port: u16);
    /// Writes 32 bits.
    unsafe fn outl(&self, value: u32, port: u16);
    /// Fills a slice by reading bytes.
    unsafe fn insb(&self, port: u16, buffer: &mut [u8]);
    /// Fills a slice by reading 16 bits at a time.
    unsafe fn insw(&self, port: u16, buffer: &mut [u16]);
    /// Fills a slice by reading 32 bits at a time.
    unsafe fn insl(&self, port: u16, buffer: &mut [u32]);
    /// Writes a slice, byte by byte.
    unsafe fn outsb(&self, port: u16, buffer: &[u8]);
    /// Writes a slice, 16 bits at a time.
    unsafe fn outsw(&self, port: u16, buffer: &[u16]);
    /// Writes a slice, 32 bits at a time.
    unsafe fn outsl(&self, port: u16, buffer: &[u32]);
}

/// The CPU's instructions, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Native;

/// Implements the trait by forwarding each operation to the expression `$to` of `self`.
macro_rules! port_io {
    (impl [$($generics:tt)*] $type:ty, |$self:ident| $to:expr) => {
        impl<$($generics)*> PortIo for $type {
            port_io!(@each $self, $to; inb inw inl: u8 u16 u32; outb outw outl; insb insw insl;
                     outsb outsw outsl);
        }
    };
    (@each $self:ident, $to:expr; $($in:ident)*: $($type:ident)*; $($out:ident)*; $($ins:ident)*;
     $($outs:ident)*) => {
        $(
            #[inline]
            unsafe fn $in(&self, port: u16) -> $type {
                let $self = self;
                // SAFETY: the caller answers for the access.
                unsafe { $to.$in(port) }
            }

            #[inline]
            unsafe fn $out(&self, value: $type, port: u16) {
                let $self = self;
                // SAFETY: the caller answers for the access.
                unsafe { $to.$out(value, port) }
            }

            #[inline]
            unsafe fn $ins(&self, port: u16, buffer: &mut [$type]) {
                let $self = self;
                // SAFETY: the caller answers for the access.
                unsafe { $to.$ins(port, buffer) }
            }

            #[inline]
            unsafe fn $outs(&self, port: u16, buffer: &[$type]) {
                let $self = self;
                // SAFETY: the caller answers for the access.
                unsafe { $to.$outs(port, buffer) }
            }
        )*
    };
}
pub(crate) use port_io;

port_io!(impl [P: PortIo + ?Sized] &P, |this| **this);

macro_rules! native_io {
    ($($in:ident $out:ident $ins:ident $outs:ident $type:ident;)*) => {
        impl PortIo for Native {
            $(
                #[inline]
                unsafe fn $in(&self, port: u16) -> $type {
                    // SAFETY: the caller answers for the access.
                    unsafe { native::$in(port) }
                }

                #[inline]
                unsafe fn $out(&self, value: $type, port: u16) {
                    // SAFETY: the caller answers for the access.
                    unsafe { native::$out(value, port) }
                }

                #[inline]
                unsafe fn $ins(&self, port: u16, buffer: &mut [$type]) {
                    // SAFETY: the caller answers for the access.
                    unsafe { native::$ins(port, buffer) }
                }

                #[inline]
                unsafe fn $outs(&self, port: u16, buffer: &[$type]) {
                    // SAFETY: the caller answers for the access.
                    unsafe { native::$outs(port, buffer) }
                }
            )*
        }
    };
}

native_io! {
    inb outb insb outsb u8;
    inw outw insw outsw u16;
    inl outl insl outsl u32;
}
