//! The twelve operations as functions: hypercalls with flat segments.

use crate::paravirt::Hypercall;
use crate::port_io::PortIo;

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
                // SAFETY: the caller answers for the access.
                unsafe { Hypercall::FLAT.$in(port) }
            }

            #[doc = concat!("Writes a `", stringify!($type), "` to a port.")]
            ///
            /// # Safety
            ///
            /// Writing a port may do anything that its device does on a write.
            #[inline]
            pub unsafe fn $out(value: $type, port: u16) {
                // SAFETY: the caller answers for the access.
                unsafe { Hypercall::FLAT.$out(value, port) }
            }

            #[doc = concat!("Fills a slice of `", stringify!($type), "` from a port.")]
            ///
            /// # Safety
            ///
            /// Reading a port may do anything that its device does on a read.
            #[inline]
            pub unsafe fn $ins(port: u16, buffer: &mut [$type]) {
                // SAFETY: the caller answers for the access.
                unsafe { Hypercall::FLAT.$ins(port, buffer) }
            }

            #[doc = concat!("Writes a slice of `", stringify!($type), "` to a port.")]
            ///
            /// # Safety
            ///
            /// Writing a port may do anything that its device does on a write.
            #[inline]
            pub unsafe fn $outs(port: u16, buffer: &[$type]) {
                // SAFETY: the caller answers for the access.
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
