//! What iced-x86 makes of port I/O, for tests and fuzzing that compare the decoder with it.

use iced_x86::{Code, Instruction, OpKind};

use crate::{AddressSize, Decoded, Port, PortForm, PortSource};

/// Returns an instruction that iced has decoded, if it is port I/O.
///
/// iced gives the address size of strings only; `address_size` is that of other instructions.
pub fn decoded_by_iced(insn: &Instruction, address_size: Option<AddressSize>) -> Option<Decoded> {
    use Code::*;
    use PortForm::*;
    let rep = insn.has_rep_prefix() || insn.has_repne_prefix();
    let pick = |plain, repeated| if rep { repeated } else { plain };
    let (form, memory) = match insn.code() {
        In_AL_imm8 => (InAlImm, None),
        In_AX_imm8 => (InAxImm, None),
        In_EAX_imm8 => (InEaxImm, None),
        In_AL_DX => (InAlDx, None),
        In_AX_DX => (InAxDx, None),
        In_EAX_DX => (InEaxDx, None),
        Out_imm8_AL => (OutImmAl, None),
        Out_imm8_AX => (OutImmAx, None),
        Out_imm8_EAX => (OutImmEax, None),
        Out_DX_AL => (OutDxAl, None),
        Out_DX_AX => (OutDxAx, None),
        Out_DX_EAX => (OutDxEax, None),
        Insb_m8_DX => (pick(Insb, RepInsb), Some(insn.op0_kind())),
        Insw_m16_DX => (pick(Insw, RepInsw), Some(insn.op0_kind())),
        Insd_m32_DX => (pick(Insd, RepInsd), Some(insn.op0_kind())),
        Outsb_DX_m8 => (pick(Outsb, RepOutsb), Some(insn.op1_kind())),
        Outsw_DX_m16 => (pick(Outsw, RepOutsw), Some(insn.op1_kind())),
        Outsd_DX_m32 => (pick(Outsd, RepOutsd), Some(insn.op1_kind())),
        _ => return None,
    };
    let address_size = match memory {
        None => address_size?,
        Some(OpKind::MemoryESDI | OpKind::MemorySegSI) => AddressSize::Bits16,
        Some(OpKind::MemoryESEDI | OpKind::MemorySegESI) => AddressSize::Bits32,
        Some(OpKind::MemoryESRDI | OpKind::MemorySegRSI) => AddressSize::Bits64,
        Some(other) => panic!("a string instruction with operand {other:?}"),
    };
    let immediate =
        (form.source() == PortSource::Immediate).then(|| Port(insn.immediate8().into()));
    Some(Decoded { form, immediate, address_size })
}
