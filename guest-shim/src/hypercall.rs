//! Executes the magic instructions. No other module does.
//!
//! They are long NOPs. A host executes the call word in EAX and replaces it by a [`Status`]. Without a host
//! (on hardware, under another hypervisor or in a process), nothing happens, and [`Status::code`] is
//! `None`. Every CPU since the Pentium Pro has them, in any ring.
//!
//! [`abi`](crate::abi) lists the calls. [`call`] is enough for all of them; [`call_plain`],
//! [`call_write`] and [`call_read`] leave the registers that a call does not use to the compiler.
//! [`register_mailbox`] and [`ring_doorbell`] belong to [`Mailbox`](crate::Mailbox).

use core::arch::asm;

use crate::abi::{CallWord, Status};

/// The instruction that makes a call, in this program's mode.
#[cfg(target_arch = "x86_64")]
pub const MAGIC: [u8; 7] = crate::abi::MAGIC_64;
/// The instruction that makes a call, in this program's mode.
#[cfg(target_arch = "x86")]
pub const MAGIC: [u8; 7] = crate::abi::MAGIC_32;

/// The instruction that rings the doorbell, in this program's mode.
#[cfg(target_arch = "x86_64")]
pub const DOORBELL: [u8; 7] = crate::abi::DOORBELL_64;
/// The instruction that rings the doorbell, in this program's mode.
#[cfg(target_arch = "x86")]
pub const DOORBELL: [u8; 7] = crate::abi::DOORBELL_32;

/// The instruction that registers a mailbox, in this program's mode.
#[cfg(target_arch = "x86_64")]
pub const REGISTER_MAILBOX: [u8; 7] = crate::abi::REGISTER_MAILBOX_64;
/// The instruction that registers a mailbox, in this program's mode.
#[cfg(target_arch = "x86")]
pub const REGISTER_MAILBOX: [u8; 7] = crate::abi::REGISTER_MAILBOX_32;

/// One of the instructions, with operands. It may access memory, since devices do. It keeps flags and
/// all registers that are not operands.
macro_rules! magic {
    ($bytes:ident $(, $($operands:tt)*)?) => {
        asm!(".byte {m0}, {m1}, {m2}, {m3}, {m4}, {m5}, {m6}",
             m0 = const $bytes[0], m1 = const $bytes[1], m2 = const $bytes[2],
             m3 = const $bytes[3], m4 = const $bytes[4], m5 = const $bytes[5],
             m6 = const $bytes[6], $($($operands)*,)? options(nostack, preserves_flags))
    };
}

/// Makes a call with all three registers.
///
/// If the call reads or writes memory, its pointer must have been exposed (`expose_provenance`, or
/// `as usize`), since the call has the address alone.
///
/// # Safety
///
/// A host may do everything that the call requests: drive a device, read or overwrite the memory at EDX,
/// end the machine.
#[inline]
pub unsafe fn call(word: CallWord, edx: &mut usize, ecx: &mut usize) -> Status {
    let status;
    // SAFETY: a call changes EAX, EDX and ECX; the caller answers for the rest.
    unsafe { magic!(MAGIC, inout("eax") word.0 => status, inout("edx") *edx, inout("ecx") *ecx) };
    Status(status)
}

/// Makes a call that uses EAX alone: `inb`, `inw`, `outb`, and those of control without a text.
///
/// # Safety
///
/// The same as for [`call`].
#[inline]
pub unsafe fn call_plain(word: CallWord) -> Status {
    let status;
    // SAFETY: such a call changes EAX alone; the caller answers for the rest.
    unsafe { magic!(MAGIC, inout("eax") word.0 => status) };
    Status(status)
}

/// Makes a call that takes a value in EDX and leaves it there: `outw`, `outl`.
///
/// # Safety
///
/// The same as for [`call`].
#[inline]
pub unsafe fn call_write(word: CallWord, value: u32) -> Status {
    let status;
    // SAFETY: such a call changes EAX alone; the caller answers for the rest.
    unsafe { magic!(MAGIC, inout("eax") word.0 => status, in("edx") value) };
    Status(status)
}

/// Makes a call that returns a value in EDX: `inl`, a probe. The value is valid if the status is OK.
///
/// # Safety
///
/// The same as for [`call`].
#[inline]
pub unsafe fn call_read(word: CallWord) -> (Status, u32) {
    let (status, value);
    // SAFETY: such a call changes EAX and EDX alone; the caller answers for the rest. EDX is zero
    // before, so that an unanswered call leaks no value of this program.
    unsafe { magic!(MAGIC, inout("eax") word.0 => status, inout("edx") 0 => value) };
    (Status(status), value)
}

/// Registers the mailbox at a linear address for this CPU, if its word is the call `register`. The host
/// answers in the mailbox.
///
/// The pointer must have been exposed, as for [`call`].
///
/// # Safety
///
/// From now on, whenever the CPU rings the doorbell, a host may execute the call in the mailbox, and write
/// its answer there.
#[inline]
pub unsafe fn register_mailbox(mailbox: usize) {
    // SAFETY: it changes no register; the caller answers for the memory.
    unsafe { magic!(REGISTER_MAILBOX, in("edx") mailbox) };
}

/// Makes the call in the CPU's mailbox. The host answers there.
///
/// # Safety
///
/// A host may do everything that the call requests.
#[inline]
pub unsafe fn ring_doorbell() {
    // SAFETY: it changes no register; the caller answers for the memory.
    unsafe { magic!(DOORBELL) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::call;

    const PROBE: CallWord = CallWord::new(call::PROBE, 0, 0);

    #[inline(never)]
    extern "C" fn probing() -> u32 {
        let status;
        // The macro itself: a function may not be inlined.
        // SAFETY: a probe changes nothing.
        unsafe { magic!(MAGIC, inout("eax") PROBE.0 => status, out("edx") _) };
        status
    }

    #[inline(never)]
    extern "C" fn ringing() {
        // SAFETY: a process has no host.
        unsafe { magic!(DOORBELL) };
    }

    #[inline(never)]
    extern "C" fn registering() {
        // SAFETY: as above.
        unsafe { magic!(REGISTER_MAILBOX, in("edx") 0_usize) };
    }

    #[test]
    fn the_bytes_executed_are_those_of_the_abi() {
        for (function, magic) in [
            (probing as *const u8, MAGIC),
            (ringing as *const u8, DOORBELL),
            (registering as *const u8, REGISTER_MAILBOX),
        ] {
            // SAFETY: a function's code can be read, and none of this program's is at the very end
            // of its last page.
            let code = unsafe { core::slice::from_raw_parts(function, 32) };
            assert!(code.windows(magic.len()).any(|bytes| bytes == magic), "{code:02x?}");
        }
    }

    #[test]
    fn unanswered_calls_change_nothing() {
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
            register_mailbox(0);
            ring_doorbell();
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
