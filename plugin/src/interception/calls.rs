//! The magic instructions with which a guest makes hypercalls, and their callers.

use pvio_guest::abi::{
    DOORBELL_16, DOORBELL_32, DOORBELL_64, MAGIC_16, MAGIC_32, MAGIC_64, REGISTER_MAILBOX_16,
    REGISTER_MAILBOX_32, REGISTER_MAILBOX_64,
};

use super::token::CallToken;
use crate::hypercalls::Caller;
use crate::x86::Mode;

/// The purpose of a magic instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Magic {
    /// A call whose arguments are in registers.
    Call,
    /// A call whose arguments are in the mailbox.
    Doorbell,
    /// The registration of a mailbox.
    RegisterMailbox,
}

/// Returns the purpose of a magic instruction, and the mode of code that it belongs to.
///
/// `None` for any other bytes. With other prefixes it is an ordinary NOP.
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
    // Cheap filter: all are long NOPs, and most instructions are not.
    if !matches!(bytes, [0x0f, 0x1f, 0x80, ..] | [0x67, 0x0f, 0x1f, 0x80, ..]) {
        return None;
    }
    let found = ALL.iter().find(|(magic, ..)| *magic == bytes);
    found.map(|&(_, magic, mode)| (magic, mode))
}

/// Returns the caller of an instruction that is about to run.
pub(super) fn caller(call: CallToken, rip: u64) -> Caller {
    Caller { mode: call.mode(), supervisor: call.supervisor(), pc: call.address().at(rip) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_bytes_are_magic() {
        assert_eq!(magic(&MAGIC_16), Some((Magic::Call, Mode::Bits16)));
        assert_eq!(magic(&MAGIC_32), Some((Magic::Call, Mode::Bits32)));
        assert_eq!(magic(&DOORBELL_64), Some((Magic::Doorbell, Mode::Bits64)));
        assert_eq!(magic(&REGISTER_MAILBOX_32), Some((Magic::RegisterMailbox, Mode::Bits32)));
        // 16-bit code decodes this from the 64-bit encoding.
        assert_eq!(magic(&MAGIC_64[..5]), None);
        assert_eq!(magic(&[&[0x66], &MAGIC_64[..]].concat()), None);
        assert_eq!(magic(&[0x0f, 0x1f, 0x80, 0, 0, 0, 0]), None);
    }

    /// Each encoding is one or more NOPs in every mode.
    #[test]
    fn magic_instructions_are_nops_in_every_mode() {
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
