//! Which of the three encodings a piece of code is in: 16, 32 or 64-bit.
//!
//! It follows from CS.D and CS.L (SDM vol. 3, 3.4.5), which the plugin API does not give. QEMU's own
//! register dump shows them; where that cannot be had, QEMU's disassembly of the instruction tells
//! enough to decode it rightly, and often the mode too.

use serde::{Deserialize, Serialize};

use super::{
    AddressSize, Decoded, Direction, Supervisor, Width, decode, may_do_port_io_unconditionally,
};

/// The default operand and address size of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Real mode, virtual-8086 mode, and protected or compatibility mode with CS.D = 0.
    #[serde(rename = "16")]
    Bits16,
    /// Protected or compatibility mode with CS.D = 1.
    #[serde(rename = "32")]
    Bits32,
    /// 64-bit mode: EFER.LMA = 1 and CS.L = 1.
    #[serde(rename = "64")]
    Bits64,
}

impl Mode {
    /// All three.
    pub const ALL: [Mode; 3] = [Mode::Bits16, Mode::Bits32, Mode::Bits64];

    /// 16, 32 or 64.
    pub const fn bits(self) -> u32 {
        match self {
            Mode::Bits16 => 16,
            Mode::Bits32 => 32,
            Mode::Bits64 => 64,
        }
    }
}

/// CS.D in the second descriptor word, where QEMU keeps a segment's flags.
const DESC_B: u32 = 1 << 22;

/// The mode of the code that a vCPU runs, out of what QEMU prints for `info registers`.
///
/// QEMU prints 64-bit registers (`RAX=`) in 64-bit mode only, and the segment as
/// `CS =selector base limit flags`. `None` when the text is not of that shape.
pub fn mode_in_dump(dump: &str) -> Option<Mode> {
    let cs = dump.lines().find_map(|line| line.strip_prefix("CS ="))?;
    let flags = u32::from_str_radix(cs.split_whitespace().nth(3)?, 16).ok()?;
    Some(if dump.starts_with("RAX=") {
        Mode::Bits64
    } else if flags & DESC_B != 0 {
        Mode::Bits32
    } else {
        Mode::Bits16
    })
}

/// Whether code may do port I/O without asking the I/O permission bitmap, out of the same text: not
/// in virtual-8086 mode, and with CPL <= IOPL. `None` when the text is not of that shape.
///
/// What QEMU translates, it translates for one CPL, IOPL and VM: this holds whenever the translation
/// runs.
pub fn is_privileged_in_dump(dump: &str) -> Option<bool> {
    let (eflags, cpl) = eflags_and_cpl(dump)?;
    // Real mode has CPL 0.
    Some(may_do_port_io_unconditionally(eflags, cpl, || 1))
}

/// Whether code is a supervisor's, out of the same text, and as lastingly.
pub fn supervisor_in_dump(dump: &str) -> Option<Supervisor> {
    let (eflags, cpl) = eflags_and_cpl(dump)?;
    Some(Supervisor::of(eflags, cpl, || 1))
}

fn eflags_and_cpl(dump: &str) -> Option<(u64, u64)> {
    let after = |key: &str| dump.split_once(key)?.1.split_whitespace().next();
    let eflags = u64::from_str_radix(after(" EFL=").or_else(|| after(" RFL="))?, 16).ok()?;
    Some((eflags, after(" CPL=")?.parse().ok()?))
}

/// Decodes `bytes` without knowing the mode, with the help of `disassembly`, QEMU's AT&T text of the
/// same instruction; and gives the mode, where only one is left.
///
/// Bytes that mean the same in every mode in which they are an instruction need no text (`ee`; or
/// `66 48 ed`, which a REX makes 64-bit code, and of which capstone tells the wrong size). Else the
/// text's operand and address size settle it. `None` when they do not.
pub fn decode_by_text(bytes: &[u8], disassembly: &str) -> Option<(Decoded, Option<Mode>)> {
    let mut candidates: Vec<(Decoded, Mode)> =
        Mode::ALL.into_iter().filter_map(|mode| Some((decode(bytes, mode)?, mode))).collect();
    if !same_effect(&candidates) {
        candidates.retain(|(decoded, _)| matches_text(decoded, disassembly));
    }
    let &(decoded, mode) = candidates.first()?;
    same_effect(&candidates).then_some((decoded, (candidates.len() == 1).then_some(mode)))
}

/// Whether all candidates do the same. Only a string instruction has a use for its address size.
fn same_effect(candidates: &[(Decoded, Mode)]) -> bool {
    candidates.windows(2).all(|pair| {
        let [(a, _), (b, _)] = pair else { return true };
        a.form == b.form && (!a.form.is_string() || a.address_size == b.address_size)
    })
}

/// Whether `text` is how an AT&T disassembler shows `decoded`.
fn matches_text(decoded: &Decoded, text: &str) -> bool {
    let suffix = match decoded.form.width() {
        Width::Byte => 'b',
        Width::Word => 'w',
        Width::Dword => 'l',
    };
    let stem = match (decoded.form.direction(), decoded.form.is_string()) {
        (Direction::In, false) => "in",
        (Direction::Out, false) => "out",
        (Direction::In, true) => "ins",
        (Direction::Out, true) => "outs",
    };
    let mut words = text.split([' ', '\t', ',']).filter(|word| !word.is_empty());
    let mnemonic = words.find(|word| !is_prefix_word(word));
    let operands: Vec<&str> = words.collect();
    mnemonic.and_then(|word| word.strip_prefix(stem)).is_some_and(|rest| rest == suffix.to_string())
        && (!decoded.form.is_string()
            || operands.iter().any(|operand| operand.ends_with(index_register(decoded))))
}

fn is_prefix_word(word: &str) -> bool {
    matches!(
        word,
        "rep" | "repe" | "repz" | "repne" | "repnz" | "addr16" | "addr32" | "data16" | "data32"
    ) || word.starts_with("rex")
}

fn index_register(decoded: &Decoded) -> &'static str {
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
    use crate::{PortForm, PortSource};

    #[test]
    fn the_dump_of_each_mode_is_understood() {
        let real = "EAX=00000000 EBX=00000000\nES =0000 00000000 0000ffff 00009300\n\
                    CS =f000 ffff0000 0000ffff 00009b00\nSS =0000 00000000 0000ffff 00009300\n";
        let protected = "EAX=00000000 EBX=00000000\n\
                         CS =0008 00000000 ffffffff 00cf9b00 DPL=0 CS32 [-RA]\n";
        let long = "RAX=0000000000000000 RBX=0000000000000000\n\
                    CS =0010 0000000000000000 00000000 00af9b00 DPL=0 CS64 [-RA]\n";
        assert_eq!(mode_in_dump(real), Some(Mode::Bits16));
        assert_eq!(mode_in_dump(protected), Some(Mode::Bits32));
        assert_eq!(mode_in_dump(long), Some(Mode::Bits64));
        assert_eq!(mode_in_dump("something else"), None);
    }

    #[test]
    fn the_dump_tells_privilege() {
        let dump = |eflags: &str, cpl: u8| {
            format!("EAX=00000000\nEIP=00019000 EFL={eflags} [-------] CPL={cpl} II=0 A20=1\n")
        };
        assert_eq!(is_privileged_in_dump(&dump("00000002", 0)), Some(true));
        assert_eq!(is_privileged_in_dump(&dump("00000002", 3)), Some(false));
        assert_eq!(is_privileged_in_dump(&dump("00003002", 3)), Some(true));
        assert_eq!(is_privileged_in_dump(&dump("00023002", 3)), Some(false), "virtual-8086");
        let long = "RAX=0\nRIP=00000000fff0 RFL=00000246 [---Z-P-] CPL=3 II=0\n";
        assert_eq!(is_privileged_in_dump(long), Some(false));
        assert_eq!(is_privileged_in_dump("something else"), None);
        let supervisor = |eflags, cpl| supervisor_in_dump(&dump(eflags, cpl));
        assert_eq!(supervisor("00000002", 2), Some(Supervisor::Yes));
        assert_eq!(supervisor("00003002", 3), Some(Supervisor::No));
        assert_eq!(supervisor("00023002", 3), Some(Supervisor::No));
    }

    #[test]
    fn text_settles_the_operand_size() {
        let (decoded, mode) = decode_by_text(&[0xed], "inw %dx, %ax").unwrap();
        assert_eq!((decoded.form, mode), (PortForm::InAxDx, Some(Mode::Bits16)));
        let (decoded, mode) = decode_by_text(&[0xed], "inl %dx, %eax").unwrap();
        assert_eq!((decoded.form, mode), (PortForm::InEaxDx, None));
        let (decoded, mode) = decode_by_text(&[0xee], "outb %al, %dx").unwrap();
        assert_eq!((decoded.form, mode), (PortForm::OutDxAl, None));
    }

    #[test]
    fn text_settles_the_address_size_of_strings() {
        let (decoded, mode) = decode_by_text(&[0xf3, 0x6c], "rep insb %dx, %es:(%edi)").unwrap();
        assert_eq!((decoded.form.source(), mode), (PortSource::RepString, Some(Mode::Bits32)));
        let (_, mode) = decode_by_text(&[0x6e], "outsb (%rsi), %dx").unwrap();
        assert_eq!(mode, Some(Mode::Bits64));
        assert_eq!(decode_by_text(&[0x6e], "nop"), None);
    }

    #[test]
    fn where_all_modes_agree_no_text_is_needed() {
        let (decoded, mode) = decode_by_text(&[0xe6, 0x80], "").unwrap();
        assert_eq!((decoded.form, mode), (PortForm::OutImmAl, None));
        let (decoded, mode) = decode_by_text(&[0x66, 0x48, 0xed], "inw %dx, %ax").unwrap();
        assert_eq!((decoded.form, mode), (PortForm::InEaxDx, Some(Mode::Bits64)));
    }
}
