//! The code that makes a call.

use crate::qemu::{Register, Registers};
use crate::x86::{Cr0, Mode, Rflags, Supervisor};

/// The caller, as far as its code shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The mode of the code, which sets the width of arguments.
    pub mode: Mode,
    /// True if it is supervisor code; `None` if only the registers show it.
    pub supervisor: Option<Supervisor>,
    /// The linear address of the instruction.
    pub pc: u64,
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
