#![no_main]
//! The decoder and what goes with it, against iced.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind};
use libfuzzer_sys::fuzz_target;
use pvio_x86::{
    AddressSize, Flow, MAX_INSN_LEN, Mode, Opcode, branch_displacement, decode, decoded_by_iced,
    is_whole_instruction, loads_control_register, pushes_return_address,
};

fuzz_target!(|data: &[u8]| {
    for mode in Mode::ALL {
        let mut decoder = Decoder::with_ip(mode.bits(), data, 0, DecoderOptions::NONE);
        let insn = decoder.decode();
        // Prefixes of an instruction, the instruction, and the instruction with a byte after it.
        for len in 0..=data.len().min(MAX_INSN_LEN + 1) {
            let bytes = &data[..len];
            let is_whole = !insn.is_invalid() && insn.len() == len;
            let address_size = AddressSize::of(mode, address_override(bytes, mode));
            let expected = is_whole.then(|| decoded_by_iced(&insn, Some(address_size))).flatten();
            assert_eq!(decode(bytes, mode), expected, "{bytes:02x?} in {mode:?} code");
            let opcode = Opcode::of(bytes);
            assert!(
                expected.is_none() || opcode == Opcode::PortIo,
                "the filter loses {bytes:02x?}"
            );
            if !insn.is_invalid() {
                let whole = is_whole_instruction(bytes, mode);
                assert!(
                    whole.is_none_or(|whole| whole == is_whole),
                    "{bytes:02x?} in {mode:?} code"
                );
            }
            let _ = (pushes_return_address(bytes), loads_control_register(bytes), Flow::of(bytes));
        }
        if !insn.is_invalid() {
            branch(&insn, &data[..insn.len()], mode);
        }
    }
});

/// Returns true if the prefixes have an address size override.
fn address_override(bytes: &[u8], mode: Mode) -> bool {
    let is_prefix = |&&byte: &&u8| {
        matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3)
            || mode == Mode::Bits64 && matches!(byte, 0x40..=0x4f)
    };
    bytes.iter().take_while(is_prefix).any(|&byte| byte == 0x67)
}

/// Compares the target of a near branch.
fn branch(insn: &Instruction, bytes: &[u8], mode: Mode) {
    let mask = match insn.op0_kind() {
        OpKind::NearBranch16 => 0xffff,
        OpKind::NearBranch32 => 0xffff_ffff,
        OpKind::NearBranch64 => u64::MAX,
        _ => return,
    };
    // QEMU does not implement transactions.
    if matches!(insn.code(), Code::Xbegin_rel16 | Code::Xbegin_rel32) {
        return;
    }
    assert_eq!(Flow::of(bytes), Flow::Elsewhere, "{bytes:02x?} in {mode:?} code");
    let displacement = branch_displacement(bytes).map(|displacement| displacement as u64);
    let target = displacement.map(|displacement| displacement.wrapping_add(insn.next_ip()) & mask);
    assert_eq!(target, Some(insn.near_branch_target()), "{bytes:02x?} in {mode:?} code");
}
