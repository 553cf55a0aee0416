//! Decodes the code around a frame: the call before a return address, and a function's prologue.

use iced_x86::{
    Code as Encoding, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register,
};

use super::stack::Stack;
use crate::x86::Mode;

/// A near call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// To an offset in the code segment.
    Direct(u64),
    /// By a register or memory.
    Indirect,
}

/// Reads the code that proves frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code {
    pub(super) mode: Mode,
    /// The base of CS.
    pub(super) base: u64,
}

impl Code {
    /// Decodes the call before a return address, which is an offset in the code segment.
    pub(super) fn call_before<R: FnMut(u64, &mut [u8]) -> bool>(
        self,
        address: u64,
        stack: &mut Stack<'_, R>,
    ) -> Option<Call> {
        // The usual lengths first. A direct call has 5 bytes, or 3 in 16-bit code.
        const LENGTHS: [usize; 8] = [5, 2, 3, 6, 7, 4, 8, 9];
        LENGTHS.into_iter().find_map(|length| {
            let ip = address.checked_sub(length as u64)?;
            let mut bytes = [0; 9];
            let bytes = &mut bytes[..length];
            stack.read(self.base.wrapping_add(ip), bytes)?;
            let mut decoder = Decoder::with_ip(self.mode.bits(), bytes, ip, DecoderOptions::NONE);
            let instruction = decoder.decode();
            (!instruction.is_invalid() && instruction.len() == length).then_some(())?;
            match instruction.code() {
                Encoding::Call_rel16 | Encoding::Call_rel32_32 | Encoding::Call_rel32_64 => {
                    Some(Call::Direct(instruction.near_branch_target()))
                }
                Encoding::Call_rm16 | Encoding::Call_rm32 | Encoding::Call_rm64 => {
                    Some(Call::Indirect)
                }
                _ => None,
            }
        })
    }

    /// How much of its frame a function has made before an offset in it.
    ///
    /// Returns `None` if the function branches before it has made a frame.
    pub(super) fn frame_at<R: FnMut(u64, &mut [u8]) -> bool>(
        self,
        function: u64,
        offset: u64,
        stack: &mut Stack<'_, R>,
    ) -> Option<Progress> {
        const LOOKED_AT: usize = 48;
        /// Largest offset of a tracer's call, after `endbr`.
        const TRACER_CALL: u64 = 4;
        let mut bytes = [0; LOOKED_AT];
        stack.read(self.base.wrapping_add(function), &mut bytes)?;
        let mut decoder =
            Decoder::with_ip(self.mode.bits(), &bytes, function, DecoderOptions::NONE);
        let mut progress = Progress::Begins;
        while decoder.can_decode() {
            let instruction = decoder.decode();
            if instruction.ip() == function.wrapping_add(offset) {
                return Some(progress);
            }
            progress = match (Prologue::of(&instruction), progress) {
                (Prologue::Push, Progress::Begins) => Progress::HasPushed,
                (Prologue::Move, Progress::HasPushed) => {
                    let is_made = instruction.next_ip() <= function.wrapping_add(offset);
                    return is_made.then_some(Progress::HasFrame);
                }
                // With tracing enabled, the kernel's functions call the tracer first.
                (Prologue::Call, Progress::Begins)
                    if instruction.ip().wrapping_sub(function) <= TRACER_CALL =>
                {
                    progress
                }
                (Prologue::Other, _) => progress,
                _ => return None,
            };
        }
        None
    }
}

/// How much of its frame a function has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing: the stack is as at the call.
    Begins,
    /// It has pushed BP.
    HasPushed,
    /// BP points to its frame.
    HasFrame,
}

enum Prologue {
    /// `push bp`
    Push,
    /// `mov bp, sp`
    Move,
    Call,
    /// A jump, a return, or something else with the stack.
    Unknown,
    Other,
}

impl Prologue {
    fn of(instruction: &Instruction) -> Prologue {
        use Register::{BP, EBP, ESP, RBP, RSP, SP};
        let is_register = |operand, names: [Register; 3]| {
            instruction.op_kind(operand) == OpKind::Register
                && names.contains(&instruction.op_register(operand))
        };
        let is_bp = is_register(0, [BP, EBP, RBP]);
        match instruction.mnemonic() {
            Mnemonic::Call => Prologue::Call,
            Mnemonic::Push if is_bp => Prologue::Push,
            Mnemonic::Push => Prologue::Unknown,
            Mnemonic::Mov if is_bp && is_register(1, [SP, ESP, RSP]) => Prologue::Move,
            Mnemonic::Jmp | Mnemonic::Ret | Mnemonic::Retf | Mnemonic::Ud2 => Prologue::Unknown,
            Mnemonic::Int | Mnemonic::Int3 | Mnemonic::Iret | Mnemonic::Iretd => Prologue::Unknown,
            Mnemonic::INVALID | Mnemonic::Pop | Mnemonic::Leave => Prologue::Unknown,
            _ if is_bp || is_register(0, [SP, ESP, RSP]) => Prologue::Unknown,
            _ if is_branch(instruction.op0_kind()) => Prologue::Unknown,
            _ => Prologue::Other,
        }
    }
}

/// Returns true if an operand is the target of a direct jump.
fn is_branch(operand: OpKind) -> bool {
    use OpKind::{NearBranch16, NearBranch32, NearBranch64};
    matches!(operand, NearBranch16 | NearBranch32 | NearBranch64)
}
