//! Decodes the bytes of one instruction into one of the 24 forms.
//!
//! There are twelve opcodes (SDM vol. 2, "IN", "INS", "OUT", "OUTS"): 6C-6F, E4-E7, EC-EF. The operand size, and the
//! repeat prefix of the string instructions, make 24 forms of them. Other prefixes change nothing, except that LOCK
//! makes the instruction undefined.

use super::{AddressSize, Direction, Mode, Port, PortForm, PortSource, Prefix, Width};

/// The greatest length of an instruction in bytes (SDM vol. 2, 2.3.11). A longer one raises #GP.
pub const MAX_INSN_LEN: usize = 15;

/// A decoded port I/O instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Its form, one of 24.
    pub form: PortForm,
    /// The port, if it is an immediate byte.
    pub immediate: Option<Port>,
    /// The address size. Only string instructions use it.
    pub address_size: AddressSize,
}

/// The kind of an instruction by its first opcode byte: a cheap filter before [`decode`].
///
/// It holds in every mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// It may be port I/O.
    PortIo,
    /// The opcode has two bytes or more: 0F and another.
    Long,
    /// Any other, or none.
    Other,
}

impl Opcode {
    /// Classifies the bytes of one instruction.
    #[inline]
    pub fn of(bytes: &[u8]) -> Opcode {
        let is_prefix = |&byte: &u8| !matches!(Prefix::of(byte), None | Some(Prefix::Lock));
        match bytes.iter().find(|byte| !is_prefix(byte)) {
            Some(&byte) if is_port_opcode(byte) => Opcode::PortIo,
            Some(0x0f) => Opcode::Long,
            _ => Opcode::Other,
        }
    }
}

/// Returns true if the bytes of one instruction are MOV to a control register.
pub fn loads_control_register(bytes: &[u8]) -> bool {
    let is_prefix = |&byte: &u8| !matches!(Prefix::of(byte), None | Some(Prefix::Lock));
    let opcode = bytes.iter().position(|byte| !is_prefix(byte));
    opcode.is_some_and(|at| bytes[at..].starts_with(&[0x0f, 0x22]))
}

const fn is_port_opcode(byte: u8) -> bool {
    matches!(byte, 0x6c..=0x6f | 0xe4..=0xe7 | 0xec..=0xef)
}

/// Decodes the bytes of exactly one instruction in code of a mode.
///
/// Returns `None` if it is not port I/O, if bytes are missing or left over, or if the processor raises an exception
/// instead (LOCK, more than [`MAX_INSN_LEN`] bytes).
///
/// ```
/// use pvio_x86::{Mode, PortForm, decode};
///
/// let decoded = decode(&[0x66, 0xef], Mode::Bits32).unwrap();
/// assert_eq!(decoded.form, PortForm::OutDxAx);
/// assert_eq!(decode(&[0x90], Mode::Bits32), None);
/// ```
pub fn decode(bytes: &[u8], mode: Mode) -> Option<Decoded> {
    if bytes.len() > MAX_INSN_LEN {
        return None;
    }
    let (mut operand_override, mut address_override, mut repeat) = (false, false, false);
    let mut rex_w = false;
    let mut rest = bytes;
    let opcode = loop {
        let (&byte, tail) = rest.split_first()?;
        rest = tail;
        match Prefix::of(byte) {
            Some(Prefix::Rex { w }) if mode == Mode::Bits64 => {
                rex_w = w;
                continue;
            }
            Some(Prefix::Segment(_)) => {}
            Some(Prefix::OperandSize) => operand_override = true,
            Some(Prefix::AddressSize) => address_override = true,
            Some(Prefix::Repeat) => repeat = true,
            Some(Prefix::Lock) => return None,
            Some(Prefix::Rex { .. }) | None => break byte,
        }
        // A REX that is not right before the opcode is ignored (SDM vol. 2, 2.2.1).
        rex_w = false;
    };
    if !is_port_opcode(opcode) {
        return None;
    }

    let is_string = opcode < 0xe0;
    let has_immediate = matches!(opcode, 0xe4..=0xe7);
    let immediate = match (has_immediate, rest) {
        (true, [port]) => Some(Port((*port).into())),
        (false, []) => None,
        _ => return None,
    };
    let width = if opcode & 1 == 0 {
        Width::Byte
    } else if !rex_w && operand_override != (mode == Mode::Bits16) {
        Width::Word
    } else {
        Width::Dword
    };
    let direction = if opcode & 2 == 0 { Direction::In } else { Direction::Out };
    let source = match (is_string, has_immediate, repeat) {
        (true, _, true) => PortSource::RepString,
        (true, _, false) => PortSource::String,
        (false, true, _) => PortSource::Immediate,
        (false, false, _) => PortSource::Dx,
    };
    let address_size = AddressSize::of(mode, address_override);
    Some(Decoded { form: PortForm::new(direction, source, width), immediate, address_size })
}

/// Returns true for `call`, `int n`, `int3`, `int1` and `into`, whose only writes are pushes of return addresses.
///
/// ```
/// use pvio_x86::pushes_return_address;
///
/// assert!(pushes_return_address(&[0xe8, 0, 0, 0, 0]) && pushes_return_address(&[0x41, 0xff, 0xd2]));
/// assert!(!pushes_return_address(&[0xff, 0x00]) && !pushes_return_address(&[0xf3, 0xaa]));
/// ```
pub fn pushes_return_address(bytes: &[u8]) -> bool {
    let prefixes = bytes.iter().take_while(|&&byte| Prefix::of(byte).is_some()).count();
    match bytes[prefixes..] {
        [0xe8 | 0x9a | 0xcc | 0xcd | 0xce | 0xf1, ..] => true,
        // CALL near and far.
        [0xff, modrm, ..] => matches!(modrm >> 3 & 7, 2 | 3),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoded_by_iced;
    use iced_x86::Instruction;

    #[test]
    fn loads_of_control_registers_are_told_from_reads() {
        assert!(loads_control_register(&[0x0f, 0x22, 0xd8]), "mov cr3,eax");
        assert!(loads_control_register(&[0x44, 0x0f, 0x22, 0xc0]), "mov cr8,rax");
        assert!(!loads_control_register(&[0x0f, 0x20, 0xd8]), "mov eax,cr3");
        assert!(!loads_control_register(&[0x0f, 0x1f, 0x22]), "nop");
        assert!(!loads_control_register(&[0x66, 0x0f]), "no instruction");
    }

    const PREFIXES: [u8; 27] = [
        0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x40, 0x41, 0x42, 0x43,
        0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e, 0x4f,
    ];

    /// Decodes the same bytes by iced.
    fn iced(bytes: &[u8], mode: Mode) -> Option<Decoded> {
        let mut decoder = iced_x86::Decoder::new(mode.bits(), bytes, 0);
        let mut insn = Instruction::default();
        decoder.decode_out(&mut insn);
        if insn.len() != bytes.len() {
            return None;
        }
        decoded_by_iced(&insn, decode(bytes, mode).map(|decoded| decoded.address_size))
    }

    fn check(bytes: &[u8]) -> u32 {
        let mut port_io = 0;
        for mode in Mode::ALL {
            let ours = decode(bytes, mode);
            assert_eq!(ours, iced(bytes, mode), "{bytes:02x?} in {mode:?} code");
            if ours.is_some() {
                assert_eq!(Opcode::of(bytes), Opcode::PortIo, "the filter would lose {bytes:02x?}");
                port_io += 1;
            }
        }
        port_io
    }

    /// Calls `visit` with every sequence of up to `most` prefixes.
    fn each_prefix_sequence(most: usize, visit: &mut impl FnMut(&mut Vec<u8>)) {
        fn grow(prefixes: &mut Vec<u8>, most: usize, visit: &mut impl FnMut(&mut Vec<u8>)) {
            visit(prefixes);
            if prefixes.len() < most {
                for prefix in PREFIXES {
                    prefixes.push(prefix);
                    grow(prefixes, most, visit);
                    prefixes.pop();
                }
            }
        }
        grow(&mut Vec::new(), most, visit);
    }

    #[test]
    fn port_opcodes_after_every_three_prefixes_agree_with_iced() {
        let mut port_io = 0u32;
        each_prefix_sequence(3, &mut |insn| {
            for opcode in (0x6c..=0x6f).chain(0xe4..=0xe7).chain(0xec..=0xef) {
                insn.push(opcode);
                if matches!(opcode, 0xe4..=0xe7) {
                    insn.push(0x71);
                    port_io += check(insn);
                    insn.pop();
                } else {
                    port_io += check(insn);
                }
                insn.pop();
            }
        });
        // 64-bit code accepts all prefixes but LOCK; other code does not accept REX either.
        let all: u32 = (0..=3).map(|n| 26u32.pow(n)).sum();
        let legacy: u32 = (0..=3).map(|n| 10u32.pow(n)).sum();
        assert_eq!(port_io, 12 * (all + 2 * legacy));
    }

    #[test]
    fn all_opcodes_after_every_two_prefixes_agree_with_iced() {
        each_prefix_sequence(2, &mut |insn| {
            for opcode in 0..=0xffu8 {
                insn.push(opcode);
                check(insn);
                insn.push(0xec);
                check(insn);
                insn.push(0xec);
                check(insn);
                insn.truncate(insn.len() - 3);
            }
        });
    }

    #[test]
    fn an_immediate_port_is_the_byte_after_the_opcode() {
        for port in 0..=0xffu8 {
            for opcode in 0xe4..=0xe7u8 {
                assert_eq!(check(&[opcode, port]), 3);
            }
        }
    }

    #[test]
    fn fifteen_bytes_are_an_instruction_and_sixteen_are_not() {
        for prefix in PREFIXES {
            let mut insn = vec![prefix; MAX_INSN_LEN - 1];
            insn.push(0xed);
            check(&insn);
            insn.insert(0, prefix);
            assert_eq!(check(&insn), 0);
        }
    }

    #[test]
    fn long_mixtures_of_prefixes_agree_with_iced() {
        let mut port_io = 0;
        for seed in 0..200_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut insn: Vec<u8> =
                (0..rng.usize(..15)).map(|_| rng.choice(PREFIXES).expect("some")).collect();
            insn.extend((0..=rng.usize(..3)).map(|_| rng.u8(..)));
            port_io += check(&insn);
        }
        assert!(port_io > 1000, "{port_io}");
    }
}
