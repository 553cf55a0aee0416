//! The control flow of an instruction, by its bytes.

use super::Prefix;

/// The way that code continues after an instruction that retires.
///
/// ```
/// use pvio_x86::Flow;
///
/// assert_eq!(Flow::of(&[0xee]), Flow::On); // out dx,al
/// assert_eq!(Flow::of(&[0xeb, 0xfe]), Flow::Elsewhere); // jmp to itself
/// assert_eq!(Flow::of(&[0xcd, 0x80]), Flow::Handler); // int 0x80
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next instruction, never the same one again.
    On,
    /// A branch target, which may be the instruction itself.
    Elsewhere,
    /// The handler of a software interrupt: `int n`, `int3`, `int1`, and `into` on overflow.
    Handler,
}

impl Flow {
    /// Classifies the bytes of one instruction.
    ///
    /// The mode does not matter: where modes differ, the instruction is undefined in one of them.
    pub fn of(insn: &[u8]) -> Flow {
        match *without_prefixes(insn) {
            [0xcc | 0xcd | 0xce | 0xf1, ..] => Flow::Handler,
            // Jcc, LOOP and JCXZ, CALL, JMP, RET, IRET.
            [0x70..=0x7f | 0xe0..=0xe3 | 0x9a | 0xe8..=0xeb, ..]
            | [0xc2 | 0xc3 | 0xca | 0xcb | 0xcf, ..] => Flow::Elsewhere,
            // CALL and JMP through a register or memory: /2 to /5.
            [0xff, modrm, ..] if matches!(modrm >> 3 & 7, 2..=5) => Flow::Elsewhere,
            // Jcc, SYSCALL, SYSRET, SYSENTER, SYSEXIT, RSM, VMRUN.
            [0x0f, 0x80..=0x8f | 0x05 | 0x07 | 0x34 | 0x35 | 0xaa, ..] | [0x0f, 0x01, 0xd8] => {
                Flow::Elsewhere
            }
            _ => Flow::On,
        }
    }
}

/// Returns the distance from the end of a near branch to its target, if the instruction names it: of Jcc, JMP, CALL, LOOP
/// and JCXZ.
///
/// A mode with 16-bit addresses takes it modulo 65,536.
///
/// ```
/// assert_eq!(pvio_x86::branch_displacement(&[0xeb, 0xfe]), Some(-2)); // jmp to itself
/// assert_eq!(pvio_x86::branch_displacement(&[0xc3]), None); // ret
/// ```
pub fn branch_displacement(insn: &[u8]) -> Option<i64> {
    match *without_prefixes(insn) {
        [0x70..=0x7f | 0xe0..=0xe3 | 0xeb, byte] => Some((byte as i8).into()),
        [0xe8 | 0xe9, low, high] | [0x0f, 0x80..=0x8f, low, high] => {
            Some(i16::from_le_bytes([low, high]).into())
        }
        [0xe8 | 0xe9, a, b, c, d] | [0x0f, 0x80..=0x8f, a, b, c, d] => {
            Some(i32::from_le_bytes([a, b, c, d]).into())
        }
        _ => None,
    }
}

/// Returns an instruction from its opcode on.
fn without_prefixes(insn: &[u8]) -> &[u8] {
    let mut rest = insn;
    // In modes where 40-4F is INC or DEC, no byte follows it.
    while let [first, after @ ..] = rest
        && Prefix::of(*first).is_some()
        && !after.is_empty()
    {
        rest = after;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mode;
    use iced_x86::{Code, FlowControl, Instruction};

    /// All one and two-byte opcodes with every ModRM, without a prefix and with one.
    #[test]
    fn flow_agrees_with_iced() {
        let mut seen = 0;
        for mode in Mode::ALL {
            for prefix in [None, Some(0x66), Some(0x67), Some(0xf3), Some(0x2e), Some(0x48)] {
                for escape in [None, Some(0x0f)] {
                    for (opcode, modrm) in
                        (0..=0xffu8).flat_map(|op| (0..=0xff).map(move |m| (op, m)))
                    {
                        let mut bytes: Vec<u8> = prefix.into_iter().chain(escape).collect();
                        bytes.extend([opcode, modrm, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                        seen += u32::from(compare(mode, &bytes));
                    }
                }
            }
        }
        assert!(seen > 100_000, "{seen}");
    }

    fn compare(mode: Mode, bytes: &[u8]) -> bool {
        let mut decoder = iced_x86::Decoder::new(mode.bits(), bytes, 0);
        let mut insn = Instruction::default();
        decoder.decode_out(&mut insn);
        if insn.is_invalid() {
            return false;
        }
        use Code::*;
        let expected = match insn.code() {
            Syscall | Sysretd | Sysretq | Sysenter | Sysexitd | Sysexitq | Rsm | Vmrunw
            | Vmrund | Vmrunq => Flow::Elsewhere,
            _ => match insn.flow_control() {
                FlowControl::Next | FlowControl::Exception => Flow::On,
                FlowControl::Interrupt => Flow::Handler,
                // Transactions, and entries and exits of hypervisors except VMRUN: QEMU does not implement them, or
                // they do not retire (VMMCALL).
                _ if matches!(insn.code(), Xbegin_rel16 | Xbegin_rel32)
                    || bytes.windows(2).any(|pair| pair == [0x0f, 0x01]) =>
                {
                    return false;
                }
                _ => Flow::Elsewhere,
            },
        };
        assert_eq!(
            Flow::of(&bytes[..insn.len()]),
            expected,
            "{:02x?} in {mode:?}: {:?}",
            &bytes[..insn.len()],
            insn.code()
        );
        compare_target(&insn, &bytes[..insn.len()], mode);
        true
    }

    fn compare_target(insn: &Instruction, bytes: &[u8], mode: Mode) {
        use iced_x86::OpKind::{NearBranch16, NearBranch32, NearBranch64};
        let mask = match insn.op0_kind() {
            NearBranch16 => 0xffff,
            NearBranch32 => 0xffff_ffff,
            NearBranch64 => u64::MAX,
            _ => {
                assert_eq!(branch_displacement(bytes), None, "{bytes:02x?} in {mode:?}");
                return;
            }
        };
        let displacement = branch_displacement(bytes).map(|displacement| displacement as u64);
        let target = displacement.map(|displacement| displacement.wrapping_add(insn.next_ip()));
        let target = target.map(|target| target & mask);
        assert_eq!(target, Some(insn.near_branch_target()), "{bytes:02x?} in {mode:?}");
    }
}
