//! The magic instructions with which a guest makes hypercalls, and their callers.

use super::token::CallToken;
use crate::hypercalls::{Caller, Magic};
use crate::x86::Mode;

/// Returns the purpose of a magic instruction, and the mode of code that it belongs to.
///
/// `None` for any other bytes. With other prefixes it is an ordinary NOP.
pub(super) fn magic(bytes: &[u8]) -> Option<(Magic, Mode)> {
    // Cheap filter: all are long NOPs, and most instructions are not.
    if !matches!(bytes, [0x0f, 0x1f, 0x80, ..] | [0x67, 0x0f, 0x1f, 0x80, ..]) {
        return None;
    }
    let mut all = Magic::ALL.iter().flat_map(|&magic| Mode::ALL.map(|mode| (magic, mode)));
    all.find(|(magic, mode)| magic.bytes(*mode) == bytes)
}

/// Returns the caller of an instruction that is about to run.
pub(super) fn caller(call: CallToken, rip: u64) -> Caller {
    Caller {
        mode: call.mode(),
        supervisor: call.supervisor(),
        magic: call.magic(),
        pc: call.address().at(rip),
        code_base: call.address().base,
    }
}

#[cfg(test)]
mod tests {
    use pvio_guest::abi::{DOORBELL_64, MAGIC_16, MAGIC_32, MAGIC_64, REGISTER_MAILBOX_32};

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
        let all = Magic::ALL.iter().flat_map(|magic| Mode::ALL.map(|own| (magic.bytes(own), own)));
        for (bytes, own) in all {
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
