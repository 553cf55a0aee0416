//! From the bytes of one instruction to one of the 24 forms, or to "not port I/O".
//!
//! The opcodes are twelve (SDM vol. 2, "IN", "INS", "OUT", "OUTS"): 6C-6F, E4-E7, EC-EF. What makes
//! them 24 is the operand size, and the repeat prefix on the string instructions; everything else
//! that may stand in front changes nothing. LOCK makes any of them undefined.

use super::{Direction, Mode, Port, PortForm, PortSource, Width};

/// The longest instruction that a processor executes (SDM vol. 2, 2.3.11); one byte more is #GP.
pub const MAX_INSN_LEN: usize = 15;

/// How much of CX/ECX/RCX counts, and of the index registers is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressSize {
    /// CX, SI, DI.
    Bits16,
    /// ECX, ESI, EDI.
    Bits32,
    /// RCX, RSI, RDI.
    Bits64,
}

impl AddressSize {
    /// The count that a `rep` sees in this value of RCX.
    pub const fn count(self, rcx: u64) -> u64 {
        match self {
            AddressSize::Bits16 => rcx & 0xffff,
            AddressSize::Bits32 => rcx & 0xffff_ffff,
            AddressSize::Bits64 => rcx,
        }
    }
}

/// A port I/O instruction, as far as it is known before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Which of the 24.
    pub form: PortForm,
    /// The port, where it is in the instruction.
    pub immediate: Option<Port>,
    /// The address size, which only string instructions use.
    pub address_size: AddressSize,
}

/// What an instruction can be, as far as its first opcode byte tells, whatever the mode: a cheap filter in
/// front of [`decode`], since nearly all are of no interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// It may be port I/O, and nothing else that is watched.
    PortIo,
    /// One of two bytes: 0F and another.
    Long,
    /// Any other, or none.
    Other,
}

impl Opcode {
    /// Of the bytes of an instruction.
    #[inline]
    pub fn of(bytes: &[u8]) -> Opcode {
        // REX in 64-bit code; elsewhere a whole INC or DEC, behind which there is nothing.
        let is_in_front = |byte: u8| is_legacy_prefix(byte) || matches!(byte, 0x40..=0x4f);
        match bytes.iter().find(|&&byte| !is_in_front(byte)) {
            Some(&byte) if is_port_opcode(byte) => Opcode::PortIo,
            Some(0x0f) => Opcode::Long,
            _ => Opcode::Other,
        }
    }
}

const fn is_port_opcode(byte: u8) -> bool {
    matches!(byte, 0x6c..=0x6f | 0xe4..=0xe7 | 0xec..=0xef)
}

/// The prefixes that a port instruction may carry: segment overrides, sizes, repeats. LOCK is not
/// among them.
const fn is_legacy_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3)
}

/// Decodes the bytes of exactly one instruction as `mode` would.
///
/// `None` when it is not port I/O, when bytes are missing or left over, or when the processor
/// would refuse it (LOCK, more than 15 bytes).
///
/// ```
/// use pvio::x86::{Mode, PortForm, decode};
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
        match byte {
            0x40..=0x4f if mode == Mode::Bits64 => rex_w = byte & 8 != 0,
            _ if is_legacy_prefix(byte) => {
                // A REX that does not stand right before the opcode is ignored (SDM vol. 2, 2.2.1).
                rex_w = false;
                match byte {
                    0x66 => operand_override = true,
                    0x67 => address_override = true,
                    0xf2 | 0xf3 => repeat = true,
                    _ => {}
                }
            }
            _ => break byte,
        }
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
    let address_size = match (mode, address_override) {
        (Mode::Bits16, false) | (Mode::Bits32, true) => AddressSize::Bits16,
        (Mode::Bits32, false) | (Mode::Bits16 | Mode::Bits64, true) => AddressSize::Bits32,
        (Mode::Bits64, false) => AddressSize::Bits64,
    };
    Some(Decoded { form: PortForm::new(direction, source, width), immediate, address_size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Code, Instruction};

    const PREFIXES: [u8; 27] = [
        0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x40, 0x41, 0x42, 0x43,
        0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e, 0x4f,
    ];

    /// What iced says of the same bytes, in our terms.
    fn iced(bytes: &[u8], mode: Mode) -> Option<Decoded> {
        let mut decoder = iced_x86::Decoder::new(mode.bits(), bytes, 0);
        let mut insn = Instruction::default();
        decoder.decode_out(&mut insn);
        if insn.len() != bytes.len() {
            return None;
        }
        use Code::*;
        use PortForm::*;
        let rep = insn.has_rep_prefix() || insn.has_repne_prefix();
        let pick = |plain, repeated| if rep { repeated } else { plain };
        let (form, address_size) = match insn.code() {
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
        use iced_x86::OpKind::*;
        let address_size = match address_size {
            None => decode(bytes, mode)?.address_size,
            Some(MemoryESDI | MemorySegSI) => AddressSize::Bits16,
            Some(MemoryESEDI | MemorySegESI) => AddressSize::Bits32,
            Some(MemoryESRDI | MemorySegRSI) => AddressSize::Bits64,
            Some(other) => panic!("a string instruction with operand {other:?}"),
        };
        let immediate =
            (form.source() == PortSource::Immediate).then(|| Port(insn.immediate8().into()));
        Some(Decoded { form, immediate, address_size })
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
    fn every_port_opcode_after_every_three_prefixes_agrees_with_iced() {
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
        // 20,440 sequences; in 64-bit code all but those with LOCK, elsewhere those without REX too.
        let all: u32 = (0..=3).map(|n| 26u32.pow(n)).sum();
        let legacy: u32 = (0..=3).map(|n| 10u32.pow(n)).sum();
        assert_eq!(port_io, 12 * (all + 2 * legacy));
    }

    #[test]
    fn every_other_opcode_after_every_two_prefixes_is_not_port_io() {
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
    fn every_port_is_read_from_its_byte() {
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
