//! The code that makes a call.

use pvio_guest::abi::{
    DOORBELL_16, DOORBELL_32, DOORBELL_64, MAGIC_16, MAGIC_32, MAGIC_64, REGISTER_MAILBOX_16,
    REGISTER_MAILBOX_32, REGISTER_MAILBOX_64,
};

use crate::qemu::{Register, Registers};
use crate::stats::{CallAt, CallSiteKey};
use crate::x86::{Cr0, Mode, Rflags, Supervisor};

/// The purpose of a magic instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magic {
    /// A call whose arguments are in registers.
    Call,
    /// A call whose arguments are in the mailbox.
    Doorbell,
    /// The registration of a mailbox.
    RegisterMailbox,
}

impl Magic {
    /// All of them.
    pub const ALL: [Magic; 3] = [Magic::Call, Magic::Doorbell, Magic::RegisterMailbox];

    /// The bytes of the instruction.
    pub const fn bytes(self, mode: Mode) -> &'static [u8] {
        match (self, mode) {
            (Magic::Call, Mode::Bits64) => &MAGIC_64,
            (Magic::Call, Mode::Bits32) => &MAGIC_32,
            (Magic::Call, Mode::Bits16) => &MAGIC_16,
            (Magic::Doorbell, Mode::Bits64) => &DOORBELL_64,
            (Magic::Doorbell, Mode::Bits32) => &DOORBELL_32,
            (Magic::Doorbell, Mode::Bits16) => &DOORBELL_16,
            (Magic::RegisterMailbox, Mode::Bits64) => &REGISTER_MAILBOX_64,
            (Magic::RegisterMailbox, Mode::Bits32) => &REGISTER_MAILBOX_32,
            (Magic::RegisterMailbox, Mode::Bits16) => &REGISTER_MAILBOX_16,
        }
    }
}

/// The caller, as far as its code shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The mode of the code, which sets the width of arguments.
    pub mode: Mode,
    /// True if it is supervisor code; `None` if only the registers show it.
    pub supervisor: Option<Supervisor>,
    /// The instruction.
    pub magic: Magic,
    /// Its linear address.
    pub pc: u64,
    /// The base of the code segment.
    pub code_base: u32,
}

impl Caller {
    /// Reads an argument from a register. Outside 64-bit code it has 32 bits.
    pub(super) fn argument(self, vcpu: &mut Registers<'_>, register: Register) -> u64 {
        let value = vcpu.read(register);
        match self.mode {
            Mode::Bits64 => value,
            Mode::Bits16 | Mode::Bits32 => value & 0xffff_ffff,
        }
    }

    /// The call site: the return address that the call states, or the instruction if that is `None`.
    #[inline]
    pub(super) fn site(self, stated: Option<u64>) -> CallSiteKey {
        let (pc, at) = match stated {
            Some(pc) => (pc, CallAt::Return),
            None => (self.pc, CallAt::Instruction),
        };
        CallSiteKey { pc, at, mode: self.mode }
    }

    #[inline]
    pub(super) fn supervisor(self, vcpu: &mut Registers<'_>) -> Supervisor {
        self.supervisor.unwrap_or_else(|| supervisor_by_registers(vcpu))
    }
}

/// Out of line: the code's translation tells the privilege of nearly every call.
#[inline(never)]
fn supervisor_by_registers(vcpu: &mut Registers<'_>) -> Supervisor {
    let rflags = Rflags::from_bits_retain(vcpu.read(Register::Rflags));
    let cs = vcpu.read(Register::Cs);
    Supervisor::of(rflags, cs, || Cr0::from_bits_retain(vcpu.read(Register::Cr0)))
}
