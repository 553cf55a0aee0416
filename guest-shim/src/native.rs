//! The CPU's own port instructions, with Linux's names and order of arguments.
//!
//! Each function is one instruction; `ins` and `outs` move a whole slice with `rep`. No function makes a
//! hypercall. The caller must be allowed to do port I/O: CPL <= IOPL, or a TSS that permits the port;
//! otherwise the CPU raises #GP.

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
            // SAFETY: the instruction writes the named register alone; the caller answers for the
            // device, which may access memory.
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
            // SAFETY: the instruction changes no register; the caller answers for the device, which
            // may access memory.
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
            // SAFETY: DF is clear by the ABI, so exactly `buffer` is written.
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
            // SAFETY: DF is clear by the ABI, so exactly `buffer` is read.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                asm!(concat!("rep ", $outs), in("dx") port,
                     inout("rsi") buffer.as_ptr() => _, inout("rcx") buffer.len() => _,
                     options(nostack, preserves_flags));
            }
            // SAFETY: as above. LLVM reserves ESI on 32-bit x86, so it cannot be an operand; it is
            // exchanged and restored.
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
