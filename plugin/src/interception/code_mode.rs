//! The mode and privilege of code that QEMU translates, from the text that QEMU prints.
//!
//! The plugin API gives neither. QEMU's register dump shows both. Without it, QEMU's disassembly of an instruction is
//! enough to decode it, and often gives the mode too.

use crate::x86::{
    AddressSize, Cr0, Decoded, Direction, Mode, Rflags, Supervisor, Width, decode,
    may_do_port_io_unconditionally,
};

/// The `B` bit (CS.D) in the second word of a segment descriptor.
const DESC_B: u32 = 1 << 22;

/// The text that QEMU prints for `info registers`.
///
/// Each method returns `None` if the text does not have the shape that it expects. QEMU translates code for one CPL,
/// IOPL, VM flag and mode, so the answers hold whenever the translation runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct RegisterDump<'a>(pub &'a str);

impl RegisterDump<'_> {
    /// Returns the mode of the code.
    ///
    /// QEMU prints 64-bit registers (`RAX=`) in 64-bit mode only, and a segment as `CS =selector base limit flags`.
    pub fn mode(self) -> Option<Mode> {
        let cs = self.0.lines().find_map(|line| line.strip_prefix("CS ="))?;
        let flags = u32::from_str_radix(cs.split_whitespace().nth(3)?, 16).ok()?;
        Some(if self.0.starts_with("RAX=") {
            Mode::Bits64
        } else if flags & DESC_B != 0 {
            Mode::Bits32
        } else {
            Mode::Bits16
        })
    }

    /// Returns whether the code may do port I/O whatever the TSS says.
    pub fn is_privileged(self) -> Option<bool> {
        let (rflags, cpl) = self.rflags_and_cpl()?;
        Some(may_do_port_io_unconditionally(rflags, cpl, || Cr0::PROTECTION_ENABLE))
    }

    /// Returns whether it is supervisor code.
    pub fn supervisor(self) -> Option<Supervisor> {
        let (rflags, cpl) = self.rflags_and_cpl()?;
        Some(Supervisor::of(rflags, cpl, || Cr0::PROTECTION_ENABLE))
    }

    /// Returns CR3.
    pub fn cr3(self) -> Option<u64> {
        let (_, rest) = self.0.split_once(" CR3=")?;
        u64::from_str_radix(rest.split_whitespace().next()?, 16).ok()
    }

    /// In real mode QEMU prints CPL 0, so CR0 is not needed.
    fn rflags_and_cpl(self) -> Option<(Rflags, u64)> {
        let after = |key: &str| self.0.split_once(key)?.1.split_whitespace().next();
        let rflags = u64::from_str_radix(after(" EFL=").or_else(|| after(" RFL="))?, 16).ok()?;
        Some((Rflags::from_bits_retain(rflags), after(" CPL=")?.parse().ok()?))
    }
}

/// Decodes an instruction of unknown mode with the help of its disassembly, QEMU's AT&T text.
///
/// Also returns the mode, if only one is possible. Bytes that mean the same in every mode in which they are an
/// instruction need no text: `ee`, or `66 48 ed`, which a REX prefix makes 64-bit code, and for which capstone prints
/// the wrong size. Otherwise the operand and address size in the text decide. Returns `None` if they do not.
pub(super) fn decode_by_disassembly(bytes: &[u8], text: &str) -> Option<(Decoded, Option<Mode>)> {
    let mut candidates: Vec<(Decoded, Mode)> =
        Mode::ALL.into_iter().filter_map(|mode| Some((decode(bytes, mode)?, mode))).collect();
    if !have_same_effect(&candidates) {
        candidates.retain(|(decoded, _)| is_shown_as(decoded, text));
    }
    let &(decoded, mode) = candidates.first()?;
    have_same_effect(&candidates).then_some((decoded, (candidates.len() == 1).then_some(mode)))
}

/// Only string instructions use their address size.
fn have_same_effect(candidates: &[(Decoded, Mode)]) -> bool {
    candidates.windows(2).all(|pair| {
        let [(a, _), (b, _)] = pair else { return true };
        a.form == b.form && (!a.form.is_string() || a.address_size == b.address_size)
    })
}

/// Returns true if an AT&T disassembler prints `decoded` as `text`.
fn is_shown_as(decoded: &Decoded, text: &str) -> bool {
    let stem = match (decoded.form.direction(), decoded.form.is_string()) {
        (Direction::In, false) => "in",
        (Direction::Out, false) => "out",
        (Direction::In, true) => "ins",
        (Direction::Out, true) => "outs",
    };
    let suffix = match decoded.form.width() {
        Width::Byte => "b",
        Width::Word => "w",
        Width::Dword => "l",
    };
    let mut words = text.split([' ', '\t', ',']).filter(|word| !word.is_empty());
    let mnemonic = words.find(|word| !is_prefix_word(word));
    let mut operands = words;
    mnemonic.and_then(|word| word.strip_prefix(stem)) == Some(suffix)
        && (!decoded.form.is_string()
            || operands.any(|operand| operand.ends_with(memory_operand(decoded))))
}

fn is_prefix_word(word: &str) -> bool {
    matches!(
        word,
        "rep" | "repe" | "repz" | "repne" | "repnz" | "addr16" | "addr32" | "data16" | "data32"
    ) || word.starts_with("rex")
}

fn memory_operand(decoded: &Decoded) -> &'static str {
    match (decoded.form.direction(), decoded.address_size) {
        (Direction::In, AddressSize::Bits16) => "(%di)",
        (Direction::In, AddressSize::Bits32) => "(%edi)",
        (Direction::In, AddressSize::Bits64) => "(%rdi)",
        (Direction::Out, AddressSize::Bits16) => "(%si)",
        (Direction::Out, AddressSize::Bits32) => "(%esi)",
        (Direction::Out, AddressSize::Bits64) => "(%rsi)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::{PortForm, PortSource};

    #[test]
    fn the_dump_shows_the_mode() {
        let real = "EAX=00000000 EBX=00000000\nES =0000 00000000 0000ffff 00009300\n\
                    CS =f000 ffff0000 0000ffff 00009b00\nSS =0000 00000000 0000ffff 00009300\n";
        let protected = "EAX=00000000 EBX=00000000\n\
                         CS =0008 00000000 ffffffff 00cf9b00 DPL=0 CS32 [-RA]\n";
        let long = "RAX=0000000000000000 RBX=0000000000000000\n\
                    CS =0010 0000000000000000 00000000 00af9b00 DPL=0 CS64 [-RA]\n";
        assert_eq!(RegisterDump(real).mode(), Some(Mode::Bits16));
        assert_eq!(RegisterDump(protected).mode(), Some(Mode::Bits32));
        assert_eq!(RegisterDump(long).mode(), Some(Mode::Bits64));
        assert_eq!(RegisterDump("something else").mode(), None);
    }

    fn dump(eflags: &str, cpl: u8) -> String {
        format!("EAX=00000000\nEIP=00019000 EFL={eflags} [-------] CPL={cpl} II=0 A20=1\n")
    }

    #[test]
    fn the_dump_shows_whether_code_may_do_port_io() {
        let is_privileged = |eflags, cpl| RegisterDump(&dump(eflags, cpl)).is_privileged();
        assert_eq!(is_privileged("00000002", 0), Some(true));
        assert_eq!(is_privileged("00000002", 3), Some(false));
        assert_eq!(is_privileged("00003002", 3), Some(true));
        assert_eq!(is_privileged("00023002", 3), Some(false), "virtual-8086");
        let long = "RAX=0\nRIP=00000000fff0 RFL=00000246 [---Z-P-] CPL=3 II=0\n";
        assert_eq!(RegisterDump(long).is_privileged(), Some(false));
        assert_eq!(RegisterDump("something else").is_privileged(), None);
    }

    #[test]
    fn the_dump_shows_whether_code_is_the_supervisors() {
        let supervisor = |eflags, cpl| RegisterDump(&dump(eflags, cpl)).supervisor();
        assert_eq!(supervisor("00000002", 2), Some(Supervisor::Yes));
        assert_eq!(supervisor("00003002", 3), Some(Supervisor::No));
        assert_eq!(supervisor("00023002", 3), Some(Supervisor::No));
    }

    #[test]
    fn the_disassembly_decides_the_operand_size() {
        let (decoded, mode) = decode_by_disassembly(&[0xed], "inw %dx, %ax").unwrap();
        assert_eq!((decoded.form, mode), (PortForm::InAxDx, Some(Mode::Bits16)));
        let (decoded, mode) = decode_by_disassembly(&[0xed], "inl %dx, %eax").unwrap();
        assert_eq!((decoded.form, mode), (PortForm::InEaxDx, None));
        let (decoded, mode) = decode_by_disassembly(&[0xee], "outb %al, %dx").unwrap();
        assert_eq!((decoded.form, mode), (PortForm::OutDxAl, None));
    }

    #[test]
    fn the_disassembly_decides_the_address_size_of_strings() {
        let rep_insb = decode_by_disassembly(&[0xf3, 0x6c], "rep insb %dx, %es:(%edi)");
        let (decoded, mode) = rep_insb.unwrap();
        assert_eq!((decoded.form.source(), mode), (PortSource::RepString, Some(Mode::Bits32)));
        let (_, mode) = decode_by_disassembly(&[0x6e], "outsb (%rsi), %dx").unwrap();
        assert_eq!(mode, Some(Mode::Bits64));
        assert_eq!(decode_by_disassembly(&[0x6e], "nop"), None);
    }

    #[test]
    fn bytes_that_mean_the_same_in_all_modes_need_no_disassembly() {
        let (decoded, mode) = decode_by_disassembly(&[0xe6, 0x80], "").unwrap();
        assert_eq!((decoded.form, mode), (PortForm::OutImmAl, None));
        let (decoded, mode) = decode_by_disassembly(&[0x66, 0x48, 0xed], "inw %dx, %ax").unwrap();
        assert_eq!((decoded.form, mode), (PortForm::InEaxDx, Some(Mode::Bits64)));
    }
}
