//! The registers of the vCPU, for scripts that ask for them by `registers=on`.

use std::sync::{Mutex, PoisonError};

use rhai::EvalAltResult;

use crate::devices::GuestRegisters;

/// The registers' names without their first letter, by the processor's numbers for them.
const NAMES: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];

/// The registers of the vCPU that executes an `in` or `out`.
pub(super) struct Registers(
    /// Never contended: calls of a device come one at a time.
    Mutex<Box<dyn GuestRegisters>>,
);

/// A register as a script names it.
struct Name {
    number: usize,
    /// `eax` and its like are the low 32 bits.
    is_low_half: bool,
}

impl Registers {
    pub fn new(registers: Box<dyn GuestRegisters>) -> Registers {
        Registers(Mutex::new(registers))
    }

    /// Reads a register: `eax` without a sign, `rax` with one.
    pub fn read(&self, name: &str) -> Result<i64, Box<EvalAltResult>> {
        let Name { number, is_low_half } = parse(name)?;
        let registers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = registers.read(number).ok_or(OUTSIDE)?;
        Ok(if is_low_half { i64::from(value as u32) } else { value as i64 })
    }

    /// Writes a register. A 32-bit name clears the upper half, as the processor does.
    pub fn write(&self, name: &str, value: i64) -> Result<(), Box<EvalAltResult>> {
        let Name { number, is_low_half } = parse(name)?;
        let value = if is_low_half { u64::from(value as u32) } else { value as u64 };
        let registers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match registers.write(number, value) {
            true => Ok(()),
            false => Err(OUTSIDE.into()),
        }
    }
}

const OUTSIDE: &str =
    "registers can be used only in read and write, for an access by an instruction of the guest";

fn parse(name: &str) -> Result<Name, Box<EvalAltResult>> {
    let wrong = || {
        format!(
            "there is no register {name:?}; name eax, ecx, edx, ebx, esp, ebp, esi, edi, or rax and so on"
        )
    };
    let rest = name.strip_prefix(['e', 'r']).ok_or_else(wrong)?;
    let number = NAMES.iter().position(|register| *register == rest).ok_or_else(wrong)?;
    Ok(Name { number, is_low_half: name.starts_with('e') })
}
