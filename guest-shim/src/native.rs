//! The processor's own port instructions, by Linux's names and in Linux's order of arguments.
//!
//! Each function is one instruction; `ins` and `outs` move a whole slice by `rep`. Nothing here makes a
//! hypercall or knows that there are any. The caller must be allowed to do port I/O: CPL <= IOPL, or a
//! TSS that permits the port; else the processor raises #GP.

use core::arch::asm;

macro_rules! scalar {
    ($input:ident $output:ident $value:ty, $register:tt) => {
        #[doc = concat!("Reads a `", stringify!($value), "` from a port.")]
        ///
        /// # Safety
        ///
        /// Reading a port may do anything that its device does on a read.
        #[inline]
        pub unsafe fn $input(port: u16) -> $value {
            let value;
            // SAFETY: the instruction writes the named register alone; the device, which may read or
            // write memory before it answers, is the caller's.
            unsafe {
                asm!(concat!("in ", $register, ", dx"), in("dx") port, out($register) value,
                     options(nostack, preserves_flags));
            }
            value
        }

        #[doc = concat!("Writes a `", stringify!($value), "` to a port.")]
        ///
        /// # Safety
        ///
        /// Writing a port may do anything that its device does on a write.
        #[inline]
        pub unsafe fn $output(value: $value, port: u16) {
            // SAFETY: the instruction changes no register; the device, which may read or write
            // memory by itself, is the caller's.
            unsafe {
                asm!(concat!("out dx, ", $register), in("dx") port, in($register) value,
                     options(nostack, preserves_flags));
            }
        }
    };
}

scalar!(inb outb u8, "al");
scalar!(inw outw u16, "ax");
scalar!(inl outl u32, "eax");

macro_rules! string {
    ($input:ident $output:ident $value:ty, $ins:literal $outs:literal) => {
        #[doc = concat!("Fills a slice of `", stringify!($value), "` from a port.")]
        ///
        /// # Safety
        ///
        /// Reading a port may do anything that its device does on a read.
        #[inline]
        pub unsafe fn $input(port: u16, buffer: &mut [$value]) {
            // SAFETY: DF is clear by the ABI, so that exactly `buffer` is written, upwards.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                asm!(concat!("rep ", $ins), in("dx") port,
                     inout("rdi") buffer.as_mut_ptr() => _, inout("rcx") buffer.len() => _,
                     options(nostack, preserves_flags));
            }
            // SAFETY: as above.
            #[cfg(target_arch = "x86")]
            unsafe {
                asm!(concat!("rep ", $ins), in("dx") port,
                     inout("edi") buffer.as_mut_ptr() => _, inout("ecx") buffer.len() => _,
                     options(nostack, preserves_flags));
            }
        }

        #[doc = concat!("Writes a slice of `", stringify!($value), "` to a port.")]
        ///
        /// # Safety
        ///
        /// Writing a port may do anything that its device does on a write.
        #[inline]
        pub unsafe fn $output(port: u16, buffer: &[$value]) {
            // SAFETY: DF is clear by the ABI, so that exactly `buffer` is read, upwards.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                asm!(concat!("rep ", $outs), in("dx") port,
                     inout("rsi") buffer.as_ptr() => _, inout("rcx") buffer.len() => _,
                     options(nostack, preserves_flags));
            }
            // SAFETY: as above. ESI is exchanged back: LLVM keeps it for itself on 32-bit x86, and
            // it cannot be an operand.
            #[cfg(target_arch = "x86")]
            unsafe {
                asm!("xchg esi, {buffer}", concat!("rep ", $outs), "xchg esi, {buffer}",
                     buffer = inout(reg) buffer.as_ptr() => _, in("dx") port,
                     inout("ecx") buffer.len() => _, options(nostack, preserves_flags));
            }
        }
    };
}

string!(insb outsb u8, "insb" "outsb");
string!(insw outsw u16, "insw" "outsw");
string!(insl outsl u32, "insd" "outsd");
