//! The magic instructions: the one place that executes them.
//!
//! They are long NOPs. Where a host listens, the call word in EAX is carried out and a [`Status`] takes
//! its place; anywhere else, on hardware, under another hypervisor or in a process, nothing happens,
//! and [`Status::code`] is `None`. Any processor since the Pentium Pro has them, in any ring.
//!
//! What the calls mean is in [`abi`](crate::abi); what is done about their answers, in the functions
//! above this module. [`call`] is enough for all of them. The others leave registers to the compiler
//! that their calls do not use. [`register`] and [`ring`] are the mailbox's: what is in it is the
//! business of [`Mailbox`](crate::Mailbox).

use core::arch::asm;

use crate::abi::{CallWord, Status};

/// The bytes of the instruction that calls, in this program's mode.
#[cfg(target_arch = "x86_64")]
pub const MAGIC: [u8; 7] = crate::abi::MAGIC_64;
/// The bytes of the instruction that calls, in this program's mode.
#[cfg(target_arch = "x86")]
pub const MAGIC: [u8; 7] = crate::abi::MAGIC_32;

/// The bytes of the instruction that rings, in this program's mode.
#[cfg(target_arch = "x86_64")]
pub const RING: [u8; 7] = crate::abi::DOORBELL_64;
/// The bytes of the instruction that rings, in this program's mode.
#[cfg(target_arch = "x86")]
pub const RING: [u8; 7] = crate::abi::DOORBELL_32;

/// The bytes of the instruction that registers a mailbox, in this program's mode.
#[cfg(target_arch = "x86_64")]
pub const REGISTER: [u8; 7] = crate::abi::REGISTER_MAILBOX_64;
/// The bytes of the instruction that registers a mailbox, in this program's mode.
#[cfg(target_arch = "x86")]
pub const REGISTER: [u8; 7] = crate::abi::REGISTER_MAILBOX_32;

/// One of the instructions, with operands. A host may read and write memory on behalf of any call: a
/// device does so by itself. Flags and all registers that are no operand stay as they are.
macro_rules! magic {
    ($bytes:ident $(, $($operands:tt)*)?) => {
        asm!(".byte {m0}, {m1}, {m2}, {m3}, {m4}, {m5}, {m6}",
             m0 = const $bytes[0], m1 = const $bytes[1], m2 = const $bytes[2],
             m3 = const $bytes[3], m4 = const $bytes[4], m5 = const $bytes[5],
             m6 = const $bytes[6], $($($operands)*,)? options(nostack, preserves_flags))
    };
}

/// Makes a call, with all three registers.
///
/// Memory that the call reads or writes is named by an address alone: the pointer must have been
/// exposed (`expose_provenance`, or `as usize`).
///
/// # Safety
///
/// A host may do all that the call asks for: drive a device, read or overwrite the memory that EDX and
/// ECX name, end the machine.
#[inline]
pub unsafe fn call(word: CallWord, edx: &mut usize, ecx: &mut usize) -> Status {
    let status;
    // SAFETY: EAX, EDX and ECX are all that a call changes beside what the caller answers for.
    unsafe { magic!(MAGIC, inout("eax") word.0 => status, inout("edx") *edx, inout("ecx") *ecx) };
    Status(status)
}

/// Makes a call that uses EAX alone: `inb`, `inw`, `outb`, and those of control without a text.
///
/// # Safety
///
/// As for [`call`].
#[inline]
pub unsafe fn call_plain(word: CallWord) -> Status {
    let status;
    // SAFETY: such a call changes EAX alone beside what the caller answers for.
    unsafe { magic!(MAGIC, inout("eax") word.0 => status) };
    Status(status)
}

/// Makes a call that takes a value in EDX and leaves it there: `outw`, `outl`.
///
/// # Safety
///
/// As for [`call`].
#[inline]
pub unsafe fn call_write(word: CallWord, value: u32) -> Status {
    let status;
    // SAFETY: such a call changes EAX alone beside what the caller answers for.
    unsafe { magic!(MAGIC, inout("eax") word.0 => status, in("edx") value) };
    Status(status)
}

/// Makes a call that gives a value in EDX: `inl`, a probe. The value means something where the status
/// is OK.
///
/// # Safety
///
/// As for [`call`].
#[inline]
pub unsafe fn call_read(word: CallWord) -> (Status, u32) {
    let (status, value);
    // SAFETY: such a call changes EAX and EDX alone beside what the caller answers for. Zero goes in,
    // so that nothing of this program's comes out where nobody answers.
    unsafe { magic!(MAGIC, inout("eax") word.0 => status, inout("edx") 0 => value) };
    (Status(status), value)
}

/// Makes the mailbox at a linear address the processor's, if its word asks for it. The answer is there.
///
/// The pointer must have been exposed, as for [`call`].
///
/// # Safety
///
/// Whenever the processor rings from now on, a host may do what the mailbox then asks for, and write
/// the answer there.
#[inline]
pub unsafe fn register(mailbox: usize) {
    // SAFETY: it changes no register, and no memory but what the caller answers for.
    unsafe { magic!(REGISTER, in("edx") mailbox) };
}

/// Makes the call that is in the processor's mailbox. The answer is there.
///
/// # Safety
///
/// A host may do all that the call asks for.
#[inline]
pub unsafe fn ring() {
    // SAFETY: it changes no register, and no memory but what the caller answers for.
    unsafe { magic!(RING) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::call;

    const PROBE: CallWord = CallWord::new(call::PROBE, 0, 0);

    #[inline(never)]
    extern "C" fn probing() -> u32 {
        let status;
        // The macro itself: a function may be somewhere else, where it is not inlined.
        // SAFETY: a probe changes nothing.
        unsafe { magic!(MAGIC, inout("eax") PROBE.0 => status, out("edx") _) };
        status
    }

    #[inline(never)]
    extern "C" fn ringing() {
        // SAFETY: nobody hears it in a process.
        unsafe { magic!(RING) };
    }

    #[inline(never)]
    extern "C" fn registering() {
        // SAFETY: as above.
        unsafe { magic!(REGISTER, in("edx") 0_usize) };
    }

    #[test]
    fn the_bytes_executed_are_those_of_the_abi() {
        for (function, magic) in [
            (probing as *const u8, MAGIC),
            (ringing as *const u8, RING),
            (registering as *const u8, REGISTER),
        ] {
            // SAFETY: a function's code can be read, and none of this program's is at the very end
            // of its last page.
            let code = unsafe { core::slice::from_raw_parts(function, 32) };
            assert!(code.windows(magic.len()).any(|bytes| bytes == magic), "{code:02x?}");
        }
    }

    #[test]
    fn unheard_calls_change_nothing() {
        assert_eq!(probing(), PROBE.0);
        let (mut edx, mut ecx) = (0x1234_5678, usize::MAX);
        // SAFETY: a probe changes nothing.
        let status = unsafe { super::call(PROBE, &mut edx, &mut ecx) };
        assert_eq!((status.0, status.code()), (PROBE.0, None));
        assert_eq!((edx, ecx), (0x1234_5678, usize::MAX));
        // SAFETY: as above.
        unsafe {
            assert_eq!(call_write(PROBE, 7).code(), None);
            assert_eq!(call_read(PROBE), (Status(PROBE.0), 0));
            register(0);
            ring();
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn flags_stay() {
        let (before, after): (u64, u64);
        // SAFETY: flags are changed and read; the stack is used as `pushfq` does, and the magic
        // instruction is a probe, which changes nothing.
        unsafe {
            asm!("xor eax, eax", "stc", "pushfq", "pop {before}",
                 "mov eax, {word:e}", ".byte {m0}, {m1}, {m2}, {m3}, {m4}, {m5}, {m6}",
                 "pushfq", "pop {after}",
                 word = in(reg) PROBE.0, before = out(reg) before, after = out(reg) after,
                 m0 = const MAGIC[0], m1 = const MAGIC[1], m2 = const MAGIC[2],
                 m3 = const MAGIC[3], m4 = const MAGIC[4], m5 = const MAGIC[5],
                 m6 = const MAGIC[6], out("eax") _, out("edx") _);
        }
        assert_eq!(before, after);
    }
}
