//! The magic instruction in the guest's code: recognised when it is translated, carried through QEMU in
//! 64 bits, and handed on as a call with who makes it.

use pvio_guest::abi::{
    DOORBELL_16, DOORBELL_32, DOORBELL_64, MAGIC_16, MAGIC_32, MAGIC_64, REGISTER_MAILBOX_16,
    REGISTER_MAILBOX_32, REGISTER_MAILBOX_64,
};

use super::address::CodeAddress;
use crate::hypercalls::Caller;
use crate::qemu::Token;
use crate::x86::{Mode, Supervisor};

/// What a magic instruction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Magic {
    /// A call by registers.
    Call,
    /// A call by the mailbox.
    Doorbell,
    /// A mailbox is to be registered.
    RegisterMailbox,
}

/// What these bytes are for, if they are a magic instruction, and of which mode. Other prefixes, or none
/// where one belongs, make it another instruction, which nobody hears.
pub(super) fn magic(bytes: &[u8]) -> Option<(Magic, Mode)> {
    const ALL: [(&[u8], Magic, Mode); 9] = [
        (&MAGIC_64, Magic::Call, Mode::Bits64),
        (&MAGIC_32, Magic::Call, Mode::Bits32),
        (&MAGIC_16, Magic::Call, Mode::Bits16),
        (&DOORBELL_64, Magic::Doorbell, Mode::Bits64),
        (&DOORBELL_32, Magic::Doorbell, Mode::Bits32),
        (&DOORBELL_16, Magic::Doorbell, Mode::Bits16),
        (&REGISTER_MAILBOX_64, Magic::RegisterMailbox, Mode::Bits64),
        (&REGISTER_MAILBOX_32, Magic::RegisterMailbox, Mode::Bits32),
        (&REGISTER_MAILBOX_16, Magic::RegisterMailbox, Mode::Bits16),
    ];
    // All are long NOPs, which most instructions are not.
    if !matches!(bytes, [0x0f, 0x1f, 0x80, ..] | [0x67, 0x0f, 0x1f, 0x80, ..]) {
        return None;
    }
    let found = ALL.iter().find(|(magic, ..)| *magic == bytes);
    found.map(|&(_, what, mode)| (what, mode))
}

/// A magic instruction that QEMU has translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TranslatedCall {
    pub mode: Mode,
    /// Whether the code is a supervisor's, where that is known.
    pub supervisor: Option<Supervisor>,
    pub address: CodeAddress,
}

const MODES: [Mode; 3] = Mode::ALL;
const SUPERVISORS: [Option<Supervisor>; 3] = [None, Some(Supervisor::Yes), Some(Supervisor::No)];

impl TranslatedCall {
    /// Bits 0 and 1: the mode. Bits 2 and 3: the privilege. The others: the address.
    pub fn to_token(self) -> Token {
        let supervisor = match self.supervisor {
            None => 0,
            Some(Supervisor::Yes) => 1,
            Some(Supervisor::No) => 2,
        };
        Token(self.mode as u64 | supervisor << 2 | self.address.to_bits())
    }

    #[inline]
    pub fn from_token(Token(token): Token) -> TranslatedCall {
        TranslatedCall {
            mode: MODES[(token & 3) as usize],
            supervisor: SUPERVISORS[(token >> 2 & 3) as usize],
            address: CodeAddress::from_bits(token),
        }
    }

    /// Who calls, when it runs.
    pub fn caller(self, rip: u64) -> Caller {
        let TranslatedCall { mode, supervisor, address } = self;
        Caller { mode, supervisor, pc: address.at(rip) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_comes_back_out_of_the_token() {
        for (mode, supervisor) in
            MODES.into_iter().flat_map(|mode| SUPERVISORS.map(|known| (mode, known)))
        {
            let address = CodeAddress { base: 0xffff_0000, offset: 0xabc };
            let call = TranslatedCall { mode, supervisor, address };
            assert_eq!(TranslatedCall::from_token(call.to_token()), call);
            let caller = Caller { mode, supervisor, pc: 0xffff_1abc };
            assert_eq!(call.caller(0x1234), caller);
        }
    }

    #[test]
    fn only_the_whole_instruction_is_magic() {
        assert_eq!(magic(&MAGIC_16), Some((Magic::Call, Mode::Bits16)));
        assert_eq!(magic(&MAGIC_32), Some((Magic::Call, Mode::Bits32)));
        assert_eq!(magic(&DOORBELL_64), Some((Magic::Doorbell, Mode::Bits64)));
        assert_eq!(magic(&REGISTER_MAILBOX_32), Some((Magic::RegisterMailbox, Mode::Bits32)));
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
            (&DOORBELL_16, Mode::Bits16),
            (&DOORBELL_32, Mode::Bits32),
            (&DOORBELL_64, Mode::Bits64),
            (&REGISTER_MAILBOX_16, Mode::Bits16),
            (&REGISTER_MAILBOX_32, Mode::Bits32),
            (&REGISTER_MAILBOX_64, Mode::Bits64),
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
