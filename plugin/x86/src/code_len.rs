//! The length of an instruction by mode, which is evidence for the mode of code with known instruction boundaries.
//!
//! Immediates, displacements and REX prefixes make some instructions longer in one mode than in another.

use super::{AddressSize, MAX_INSN_LEN, Mode, Prefix};

/// The immediate operand, which follows the opcode and the memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Immediate {
    None,
    /// As many bytes in every mode.
    Bytes(usize),
    /// 2 or 4 bytes, by the operand size.
    Operand,
    /// 2, 4 or 8 bytes, by the operand size.
    Whole,
    /// An address: 2, 4 or 8 bytes, by the address size.
    Address,
    /// A far pointer: 2 bytes more than the operand size.
    Far,
    /// A near branch: the operand size, but 64-bit code treats an operand-size prefix in several ways.
    Branch,
    /// 1 byte for TEST, which is /0 and /1; else none.
    TestByte,
    /// The same, by the operand size.
    Test,
}

/// Returns whether `bytes` are exactly one valid instruction of code in a mode.
///
/// `None` if that is not known: the opcode is rare, or is only an instruction in other modes.
///
/// Source: SDM vol. 2, appendix A.
///
/// ```
/// use pvio_x86::{Mode, is_whole_instruction};
///
/// let mov_ax = [0xb8, 0x34, 0x12];
/// assert_eq!(is_whole_instruction(&mov_ax, Mode::Bits16), Some(true));
/// assert_eq!(is_whole_instruction(&mov_ax, Mode::Bits32), Some(false));
/// ```
pub fn is_whole_instruction(bytes: &[u8], mode: Mode) -> Option<bool> {
    let len = match length(bytes, mode) {
        Length::Known(len) => len,
        Length::Longer => return Some(false),
        Length::Unknown => return None,
    };
    Some(len == bytes.len() && len <= MAX_INSN_LEN)
}

/// The length of the first instruction.
enum Length {
    Known(usize),
    /// More than there are bytes.
    Longer,
    Unknown,
}

fn length(bytes: &[u8], mode: Mode) -> Length {
    let is_64 = mode == Mode::Bits64;
    let (mut operand_override, mut address_override, mut rex_w) = (false, false, false);
    let mut at = 0;
    // The byte at `at`, which is consumed.
    let mut next = || {
        let byte = bytes.get(at).copied();
        at += 1;
        byte
    };
    let opcode = loop {
        let Some(byte) = next() else { return Length::Longer };
        match Prefix::of(byte) {
            Some(Prefix::Rex { w }) if is_64 => {
                rex_w = w;
                continue;
            }
            Some(Prefix::OperandSize) => operand_override = true,
            Some(Prefix::AddressSize) => address_override = true,
            Some(Prefix::Segment(_) | Prefix::Repeat | Prefix::Lock) => {}
            Some(Prefix::Rex { .. }) | None => break byte,
        }
        rex_w = false;
    };
    let layout = if opcode == 0x0f {
        let Some(second) = next() else { return Length::Longer };
        match second {
            0x38 | 0x3a => {
                if next().is_none() {
                    return Length::Longer;
                }
                let immediate = if second == 0x3a { Immediate::Bytes(1) } else { Immediate::None };
                Some((true, immediate))
            }
            _ => two_byte_opcode(second),
        }
    } else {
        one_byte_opcode(opcode)
    };
    let Some((has_modrm, immediate)) = layout else { return Length::Unknown };
    let address_size = AddressSize::of(mode, address_override);
    let mut len = at;
    let mut reg = 0;
    if has_modrm {
        let Some(&modrm) = bytes.get(len) else { return Length::Longer };
        reg = modrm >> 3 & 7;
        let mod_3 = modrm >= 0xc0;
        // VEX and EVEX in place of LES, LDS and BOUND with a register; XOP in place of POP with another /r.
        let is_other = match opcode {
            0xc4 | 0xc5 | 0x62 => is_64 || mod_3,
            0x8f => reg != 0,
            _ => false,
        };
        if is_other {
            return Length::Unknown;
        }
        match operand_len(&bytes[len..], address_size) {
            Some(operand) => len += operand,
            None => return Length::Longer,
        }
    }
    let wide_operand = operand_override == (mode == Mode::Bits16);
    let operand = if rex_w || wide_operand { 4 } else { 2 };
    len += match immediate {
        Immediate::None => 0,
        Immediate::Bytes(count) => count,
        Immediate::Operand => operand,
        Immediate::Whole if rex_w => 8,
        Immediate::Whole => operand,
        Immediate::Address => match address_size {
            AddressSize::Bits16 => 2,
            AddressSize::Bits32 => 4,
            AddressSize::Bits64 => 8,
        },
        Immediate::Far if is_64 => return Length::Unknown,
        Immediate::Far => operand + 2,
        Immediate::Branch if is_64 && operand_override => return Length::Unknown,
        Immediate::Branch => operand,
        Immediate::TestByte => usize::from(reg < 2),
        Immediate::Test if reg < 2 => operand,
        Immediate::Test => 0,
    };
    Length::Known(len)
}

/// The length of ModRM, SIB and displacement; `None` if bytes are missing. `bytes` begin with ModRM.
fn operand_len(bytes: &[u8], size: AddressSize) -> Option<usize> {
    let (mode, rm) = (bytes[0] >> 6, bytes[0] & 7);
    Some(match (size, mode) {
        (_, 3) => 1,
        (AddressSize::Bits16, 0) if rm == 6 => 3,
        (AddressSize::Bits16, mode) => 1 + usize::from(mode),
        (_, mode) => {
            let sib = if rm == 4 { Some(*bytes.get(1)?) } else { None };
            let base = sib.map_or(rm, |sib| sib & 7);
            let displacement = match mode {
                0 if base == 5 => 4,
                0 => 0,
                1 => 1,
                _ => 4,
            };
            1 + usize::from(sib.is_some()) + displacement
        }
    })
}

/// Returns whether an opcode has ModRM, and its immediate.
const fn one_byte_opcode(opcode: u8) -> Option<(bool, Immediate)> {
    use Immediate::*;
    Some(match opcode {
        // Arithmetic.
        0x00..=0x3f => match opcode & 7 {
            0..=3 => (true, None),
            4 => (false, Bytes(1)),
            5 => (false, Operand),
            // Segment registers and decimal arithmetic, which 64-bit code lacks.
            _ => (false, None),
        },
        0x40..=0x61 | 0x6c..=0x6f | 0x90..=0x99 | 0x9b..=0x9f => (false, None),
        0x62 | 0x63 | 0x84..=0x8f => (true, None),
        0x68 | 0xa9 => (false, Operand),
        0x69 | 0x81 | 0xc7 => (true, Operand),
        0x6a | 0x70..=0x7f | 0xa8 | 0xb0..=0xb7 | 0xcd | 0xd4 => (false, Bytes(1)),
        0x6b | 0x80 | 0x82 | 0x83 | 0xc0 | 0xc1 | 0xc6 => (true, Bytes(1)),
        0x9a | 0xea => (false, Far),
        0xa0..=0xa3 => (false, Address),
        0xa4..=0xa7 | 0xaa..=0xaf => (false, None),
        0xb8..=0xbf => (false, Whole),
        0xc2 | 0xca => (false, Bytes(2)),
        0xc3 | 0xc9 | 0xcb | 0xcc | 0xce | 0xcf => (false, None),
        0xc4 | 0xc5 => (true, None),
        0xc8 => (false, Bytes(3)),
        0xd0..=0xd3 | 0xd8..=0xdf | 0xfe | 0xff => (true, None),
        0xd7 | 0xec..=0xef | 0xf1 | 0xf4 | 0xf5 | 0xf8..=0xfd => (false, None),
        0xe0..=0xe7 | 0xeb => (false, Bytes(1)),
        0xe8 | 0xe9 => (false, Branch),
        0xf6 => (true, TestByte),
        0xf7 => (true, Test),
        // REX2 in newer processors, SALC, and prefixes.
        _ => return Option::None,
    })
}

/// The same for opcodes after 0F.
const fn two_byte_opcode(opcode: u8) -> Option<(bool, Immediate)> {
    use Immediate::*;
    Some(match opcode {
        0x05..=0x09 | 0x0b | 0x30..=0x35 | 0x37 | 0x77 | 0xa0..=0xa2 | 0xa8..=0xaa => (false, None),
        0xc8..=0xcf => (false, None),
        // MOV to and from control and debug registers: ModRM names registers, whatever its upper bits.
        0x20..=0x23 => (false, Bytes(1)),
        0x00..=0x03 | 0x0d | 0x10..=0x1f | 0x28..=0x2f | 0x40..=0x6f | 0x74..=0x76 => (true, None),
        0x70..=0x73 | 0xa4 | 0xac | 0xba | 0xc2 | 0xc4..=0xc6 => (true, Bytes(1)),
        0x80..=0x8f => (false, Branch),
        0x7c..=0x7f | 0x90..=0x9f | 0xa3 | 0xa5 | 0xab | 0xad..=0xb7 | 0xbb..=0xc1 => (true, None),
        0xc3 | 0xc7 | 0xd0..=0xfe => (true, None),
        _ => return Option::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    /// What iced says of the first instruction of some bytes: its length, if it is valid.
    fn iced(bytes: &[u8], mode: Mode) -> Option<usize> {
        let mut decoder = Decoder::with_ip(mode.bits(), bytes, 0, DecoderOptions::NONE);
        let insn = decoder.decode();
        (!insn.is_invalid()).then(|| insn.len())
    }

    #[test]
    fn valid_instructions_have_the_length_that_iced_finds() {
        let prefixes: [&[u8]; 9] = [
            &[],
            &[0x66],
            &[0x67],
            &[0x66, 0x67],
            &[0xf3],
            &[0x2e],
            &[0x48],
            &[0x66, 0x41],
            &[0xf2],
        ];
        let opcodes = (0..=0xffu8).flat_map(|byte| match byte {
            0x0f => (0..=0xffu8)
                .flat_map(|second| match second {
                    0x38 | 0x3a => (0..=0xffu8).map(|third| vec![0x0f, second, third]).collect(),
                    _ => vec![vec![0x0f, second]],
                })
                .collect(),
            _ => vec![vec![byte]],
        });
        let (mut known, mut all) = (0, 0);
        for opcode in opcodes {
            for prefix in prefixes {
                for modrm in 0..=0xffu8 {
                    for sib in [0x00, 0x25, 0xe5] {
                        let mut bytes = prefix.to_vec();
                        bytes.extend(&opcode);
                        bytes.extend([modrm, sib, 1, 2, 3, 4, 5, 6, 7, 8]);
                        for mode in Mode::ALL {
                            let Some(len) = iced(&bytes, mode) else { continue };
                            let whole = is_whole_instruction(&bytes[..len], mode);
                            assert_ne!(
                                whole,
                                Some(false),
                                "{:02x?} in {mode:?} code",
                                &bytes[..len]
                            );
                            let cut = is_whole_instruction(&bytes[..len - 1], mode);
                            assert_ne!(cut, Some(true), "{:02x?} in {mode:?} code", &bytes[..len]);
                            known += u32::from(whole.is_some());
                            all += 1;
                        }
                    }
                }
            }
        }
        assert!(known > all * 8 / 10, "{known} of {all}");
    }

    #[test]
    fn a_byte_too_many_is_no_instruction() {
        for mode in Mode::ALL {
            assert_eq!(is_whole_instruction(&[0x90], mode), Some(true));
            assert_eq!(is_whole_instruction(&[0x90, 0x90], mode), Some(false));
        }
        assert_eq!(is_whole_instruction(&[0x48], Mode::Bits32), Some(true));
        assert_eq!(is_whole_instruction(&[0x48], Mode::Bits64), Some(false));
    }
}
