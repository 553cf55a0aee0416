//! The unit of an access: 8, 16 or 32 bits.
//!
//! [`Value`] lets code be written once for the three sizes. It maps each to its calls and to its
//! operations of [`PortIo`].

use crate::abi::call;
use crate::port_io::PortIo;

/// `u8`, `u16` or `u32`. The trait is sealed.
pub trait Value: Passed {
    /// Reads a value from a port.
    ///
    /// # Safety
    ///
    /// Reading a port may do anything that its device does on a read.
    unsafe fn read_from<P: PortIo + ?Sized>(io: &P, port: u16) -> Self;

    /// Writes the value to a port.
    ///
    /// # Safety
    ///
    /// Writing a port may do anything that its device does on a write.
    unsafe fn write_to<P: PortIo + ?Sized>(self, io: &P, port: u16);

    /// Fills a slice from a port.
    ///
    /// # Safety
    ///
    /// Reading a port may do anything that its device does on a read.
    unsafe fn read_string<P: PortIo + ?Sized>(io: &P, port: u16, buffer: &mut [Self]);

    /// Writes a slice to a port.
    ///
    /// # Safety
    ///
    /// Writing a port may do anything that its device does on a write.
    unsafe fn write_string<P: PortIo + ?Sized>(io: &P, port: u16, buffer: &[Self]);
}

/// A value as the ABI passes it. The module is private, so no other crate can implement it.
pub trait Passed: Copy + 'static {
    /// The numbers of its calls.
    const IN: u8;
    const OUT: u8;
    const INS: u8;
    const OUTS: u8;
    /// The name of the type in Rust.
    const NAME: &str;

    /// Returns the value in the low bits, as a record and EDX hold it.
    fn to_bits(self) -> u32;
    /// The value in the low bits of a record or of EDX.
    fn from_bits(bits: u32) -> Self;
}

macro_rules! value {
    ($type:ident, $inx:ident $outx:ident $insx:ident $outsx:ident,
     $in_call:ident $out_call:ident $ins_call:ident $outs_call:ident) => {
        impl Passed for $type {
            const IN: u8 = call::$in_call;
            const OUT: u8 = call::$out_call;
            const INS: u8 = call::$ins_call;
            const OUTS: u8 = call::$outs_call;
            const NAME: &str = stringify!($type);

            #[inline]
            fn to_bits(self) -> u32 {
                self.into()
            }

            #[inline]
            fn from_bits(bits: u32) -> $type {
                bits as $type
            }
        }

        impl Value for $type {
            #[inline]
            unsafe fn read_from<P: PortIo + ?Sized>(io: &P, port: u16) -> $type {
                // SAFETY: the caller answers for the access.
                unsafe { io.$inx(port) }
            }

            #[inline]
            unsafe fn write_to<P: PortIo + ?Sized>(self, io: &P, port: u16) {
                // SAFETY: the caller answers for the access.
                unsafe { io.$outx(self, port) }
            }

            #[inline]
            unsafe fn read_string<P: PortIo + ?Sized>(io: &P, port: u16, buffer: &mut [$type]) {
                // SAFETY: the caller answers for the access.
                unsafe { io.$insx(port, buffer) }
            }

            #[inline]
            unsafe fn write_string<P: PortIo + ?Sized>(io: &P, port: u16, buffer: &[$type]) {
                // SAFETY: the caller answers for the access.
                unsafe { io.$outsx(port, buffer) }
            }
        }
    };
}

value!(u8, inb outb insb outsb, INB OUTB INSB OUTSB);
value!(u16, inw outw insw outsw, INW OUTW INSW OUTSW);
value!(u32, inl outl insl outsl, INL OUTL INSL OUTSL);
