//! The magic instruction in the guest's code: recognised when it is translated, carried through QEMU in
//! 64 bits, and handed on as a call with who makes it.

use pvio_guest::abi::{
    MAGIC_16, MAGIC_32, MAGIC_64, REGISTER_16, REGISTER_32, REGISTER_64, RING_16, RING_32, RING_64,
};

use crate::hypercalls::Caller;
use crate::qemu::Token;
use crate::x86::{Mode, Supervisor};

/// What a magic instruction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Magic {
    /// A call by registers.
    Call,
    /// A call by the mailbox.
    Ring,
    /// A mailbox is to be registered.
    Register,
}

/// What these bytes are for, if they are a magic instruction, and of which mode. Other prefixes, or none
/// where one belongs, make it another instruction, which nobody hears.
pub(super) fn magic(bytes: &[u8]) -> Option<(Magic, Mode)> {
    const ALL: [(&[u8], Magic, Mode); 9] = [
        (&MAGIC_64, Magic::Call, Mode::Bits64),
        (&MAGIC_32, Magic::Call, Mode::Bits32),
        (&MAGIC_16, Magic::Call, Mode::Bits16),
        (&RING_64, Magic::Ring, Mode::Bits64),
        (&RING_32, Magic::Ring, Mode::Bits32),
        (&RING_16, Magic::Ring, Mode::Bits16),
        (&REGISTER_64, Magic::Register, Mode::Bits64),
        (&REGISTER_32, Magic::Register, Mode::Bits32),
        (&REGISTER_16, Magic::Register, Mode::Bits16),
    ];
    // All are long NOPs, which most instructions are not.
    if !matches!(bytes, [0x0f, 0x1f, 0x80, ..] | [0x67, 0x0f, 0x1f, 0x80, ..]) {
        return None;
    }
    let found = ALL.iter().find(|(magic, ..)| *magic == bytes);
    found.map(|&(_, what, mode)| (what, mode))
}

/// Bits 0 and 1: the mode. Bits 2 and 3: whether the code is a supervisor's, where that is known. Bits
/// 16 to 63: the low 48 bits of the address.
const ADDRESS_SHIFT: u32 = 16;

const MODES: [Mode; 3] = Mode::ALL;
const SUPERVISORS: [Option<Supervisor>; 3] = [None, Some(Supervisor::Yes), Some(Supervisor::No)];

pub(super) fn to_token(caller: Caller) -> Token {
    let supervisor = match caller.supervisor {
        None => 0,
        Some(Supervisor::Yes) => 1,
        Some(Supervisor::No) => 2,
    };
    Token(caller.mode as u64 | supervisor << 2 | caller.pc << ADDRESS_SHIFT)
}

pub(super) fn from_token(token: Token) -> Caller {
    Caller {
        mode: MODES[(token.0 & 3) as usize],
        supervisor: SUPERVISORS[(token.0 >> 2 & 3) as usize],
        // Canonical: the upper bits are copies of bit 47.
        pc: (token.0 as i64 >> ADDRESS_SHIFT) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_comes_back_out_of_the_token() {
        for (mode, supervisor) in
            MODES.into_iter().flat_map(|mode| SUPERVISORS.map(|known| (mode, known)))
        {
            for pc in [0, 0xf_ffff, 0xffff_ffff_8123_4567] {
                let caller = Caller { mode, supervisor, pc };
                assert_eq!(from_token(to_token(caller)), caller);
            }
        }
    }

    #[test]
    fn only_the_whole_instruction_is_magic() {
        assert_eq!(magic(&MAGIC_16), Some((Magic::Call, Mode::Bits16)));
        assert_eq!(magic(&MAGIC_32), Some((Magic::Call, Mode::Bits32)));
        assert_eq!(magic(&RING_64), Some((Magic::Ring, Mode::Bits64)));
        assert_eq!(magic(&REGISTER_32), Some((Magic::Register, Mode::Bits32)));
        // What 16-bit code makes of the other two.
        assert_eq!(magic(&MAGIC_64[..5]), None);
        assert_eq!(magic(&[&[0x66], &MAGIC_64[..]].concat()), None);
        assert_eq!(magic(&[0x0f, 0x1f, 0x80, 0, 0, 0, 0]), None);
    }

    /// What iced makes of each in every mode: NOPs, whatever the processor takes it for.
    #[test]
    fn the_magic_instruction_does_nothing_in_any_mode() {
        for (bytes, own) in [
            (&MAGIC_16[..], Mode::Bits16),
            (&MAGIC_32[..], Mode::Bits32),
            (&MAGIC_64[..], Mode::Bits64),
            (&RING_16, Mode::Bits16),
            (&RING_32, Mode::Bits32),
            (&RING_64, Mode::Bits64),
            (&REGISTER_16, Mode::Bits16),
            (&REGISTER_32, Mode::Bits32),
            (&REGISTER_64, Mode::Bits64),
        ] {
            for mode in Mode::ALL {
                let decoder = iced_x86::Decoder::new(mode.bits(), bytes, 0);
                let insns: Vec<_> = decoder.into_iter().collect();
                assert!(insns.iter().all(|insn| insn.mnemonic() == iced_x86::Mnemonic::Nop));
                assert_eq!(insns.iter().map(|insn| insn.len()).sum::<usize>(), bytes.len());
                assert!(mode != own || insns.len() == 1, "{bytes:02x?} in {mode:?} code");
            }
        }
    }
}
