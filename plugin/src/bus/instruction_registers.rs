//! The registers of the vCPU whose instruction a device serves.

use std::cell::Cell;

use crate::devices::GuestRegisters;
use crate::qemu::AccessRegisters;

thread_local! {
    /// True while a device serves an instruction of the vCPU that this thread runs.
    ///
    /// It tells an access by an instruction from one by hypercall or by QEMU's monitor, which reach a device on the same
    /// threads.
    static IN_INSTRUCTION: Cell<bool> = const { Cell::new(false) };
}

/// The time of one access by an instruction.
pub(super) struct Instruction(());

impl Instruction {
    pub fn begin() -> Instruction {
        IN_INSTRUCTION.set(true);
        Instruction(())
    }
}

impl Drop for Instruction {
    fn drop(&mut self) {
        IN_INSTRUCTION.set(false);
    }
}

/// The registers as a device sees them.
pub(super) struct InstructionRegisters(AccessRegisters);

impl InstructionRegisters {
    /// `None` if QEMU does not say where they are.
    pub fn find() -> Option<InstructionRegisters> {
        AccessRegisters::find().map(InstructionRegisters)
    }
}

impl GuestRegisters for InstructionRegisters {
    fn read(&self, number: usize) -> Option<u64> {
        IN_INSTRUCTION.get().then(|| self.0.read(number)).flatten()
    }

    fn write(&self, number: usize, value: u64) -> bool {
        IN_INSTRUCTION.get() && self.0.write(number, value)
    }
}
