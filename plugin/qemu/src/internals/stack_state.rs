//! The state of a vCPU that unwinding needs in addition to its general registers.

use super::direct::{Direct, hflags};

/// The stack of a vCPU that is about to run an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackState {
    /// The base of SS. Without meaning in 64-bit code.
    pub base: u64,
    /// True if the stack pointer has 32 bits, not 16. It has no meaning in 64-bit code.
    pub is_32_bit: bool,
    /// The privilege level, 0 to 3.
    pub cpl: u8,
    /// True if the page tables describe memory: no nested guest, no system management mode, A20 not masked.
    pub is_plain: bool,
}

impl StackState {
    /// `None` if it is not known where the state is.
    pub(crate) fn of(direct: &Direct) -> Option<StackState> {
        /// The processor's number for SS.
        const SS: usize = 2;
        let layout = direct.layout().strings()?;
        let state = direct.load(layout.hflags);
        Some(StackState {
            base: direct.load(layout.bases[SS]),
            is_32_bit: state & hflags::SS32 != 0,
            cpl: (state & hflags::CPL) as u8,
            is_plain: state & (hflags::SMM | hflags::GUEST) == 0
                && direct.load(layout.a20_mask) as u32 == u32::MAX,
        })
    }
}
