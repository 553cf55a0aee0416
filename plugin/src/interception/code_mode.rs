//! The mode and privilege of code that QEMU translates, from the text that QEMU prints.
//!
//! The plugin API provides neither. QEMU's register dump shows both. Without a dump, the registers show the privilege and
//! exclude some modes; the lengths of a block's instructions and QEMU's disassembly exclude others. If several modes are
//! still possible, the instruction is counted as undecided.

use crate::qemu::{Insn, Register};
use crate::x86::{
    AddressSize, Cr0, Decoded, Direction, Efer, InsnForm, Mode, PortSource, Rflags, Supervisor,
    Width, decode, may_do_port_io_unconditionally,
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

/// Registers that describe the code that a vCPU is about to run, if QEMU prints no dump.
///
/// QEMU translates code for one CPL, IOPL, VM, PE and LMA, so the answers hold whenever the translation runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct CodeRegisters {
    rflags: Rflags,
    cs: u64,
    cr0: Cr0,
    efer: Efer,
    rip: u64,
}

impl CodeRegisters {
    /// Reads the registers of the vCPU that translates; `None` if it has none yet.
    pub fn of(insn: &Insn<'_>) -> Option<CodeRegisters> {
        Some(CodeRegisters {
            rflags: Rflags::from_bits_retain(insn.register(Register::Rflags)?),
            cs: insn.register(Register::Cs)?,
            cr0: Cr0::from_bits_retain(insn.register(Register::Cr0)?),
            efer: Efer::from_bits_retain(insn.register(Register::Efer)?),
            rip: insn.register(Register::Rip)?,
        })
    }

    /// Returns the mode of code above 4 GiB, where only 64-bit code can run.
    pub fn certain_mode(self) -> Option<Mode> {
        let is_long = self.efer.contains(Efer::LONG_MODE_ACTIVE);
        (is_long && self.rip > u32::MAX.into()).then_some(Mode::Bits64)
    }

    /// Returns true if the code may be of a mode. CS.D and CS.L are not among the registers.
    pub fn allow(self, mode: Mode) -> bool {
        let is_protected = self.cr0.contains(Cr0::PROTECTION_ENABLE);
        if !is_protected || self.rflags.contains(Rflags::VIRTUAL_8086) {
            // A processor leaves protected mode in a 16-bit segment (SDM vol. 3, 11.9.2).
            return mode == Mode::Bits16;
        }
        match self.efer.contains(Efer::LONG_MODE_ACTIVE) {
            false => mode != Mode::Bits64,
            true => self.certain_mode().is_none_or(|certain| certain == mode),
        }
    }

    /// Returns true if the code may do port I/O whatever the TSS says.
    pub fn is_privileged(self) -> bool {
        may_do_port_io_unconditionally(self.rflags, self.cs, || self.cr0)
    }

    /// Returns whether it is supervisor code.
    pub fn supervisor(self) -> Supervisor {
        Supervisor::of(self.rflags, self.cs, || self.cr0)
    }

    /// Returns the values that distinguish code segments: CS, CR0.PE, VM and EFER.LMA.
    pub fn segment(self) -> CodeSegment {
        CodeSegment {
            cs: self.cs,
            is_protected: self.cr0.contains(Cr0::PROTECTION_ENABLE),
            is_virtual_8086: self.rflags.contains(Rflags::VIRTUAL_8086),
            is_long: self.efer.contains(Efer::LONG_MODE_ACTIVE),
        }
    }
}

/// A segment of code, as far as the registers tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CodeSegment {
    cs: u64,
    is_protected: bool,
    is_virtual_8086: bool,
    is_long: bool,
}

/// An instruction as far as it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortInsn {
    /// In the mode of the code, or in one that it may have: then the one with the widest count of a `rep`.
    pub decoded: Decoded,
    /// The form, unless two modes decode to different ones.
    pub form: InsnForm,
    /// The mode, if only one is possible.
    pub mode: Option<Mode>,
}

impl PortInsn {
    /// Decodes an instruction of known mode.
    pub fn in_mode(bytes: &[u8], mode: Mode) -> Option<PortInsn> {
        let decoded = decode(bytes, mode)?;
        Some(PortInsn { decoded, form: decoded.form.into(), mode: Some(mode) })
    }

    /// Decodes an instruction of unknown mode.
    ///
    /// `text` is QEMU's AT&T disassembly, or empty. `is_possible` returns whether other evidence allows a mode. It is
    /// called last, because it may know more about the same code another time; then a site would have two rows.
    ///
    /// Bytes that mean the same in every mode in which they are an instruction need no text: `ee`, or `66 48 ed`, which
    /// a REX prefix makes 64-bit code, and for which capstone prints the wrong size.
    pub fn in_some_mode(
        bytes: &[u8],
        text: impl FnOnce() -> String,
        is_possible: impl Fn(Mode) -> bool,
    ) -> Option<PortInsn> {
        let decoded = |mode| Some((decode(bytes, mode)?, mode));
        let mut candidates: Vec<(Decoded, Mode)> =
            Mode::ALL.into_iter().filter_map(decoded).collect();
        if !have_same_effect(&candidates) {
            let text = text();
            keep_if_any(&mut candidates, |(decoded, _)| is_shown_as(decoded, &text));
        }
        if !have_same_effect(&candidates) {
            // Evidence against every mode is no evidence.
            keep_if_any(&mut candidates, |(_, mode)| is_possible(*mode));
        }
        let (narrowest, widest) = (candidates.first()?, candidates.last()?);
        let by_count = candidates.iter().max_by_key(|(decoded, _)| decoded.address_size as u8)?;
        let other = candidates.iter().find(|(decoded, _)| decoded.form != narrowest.0.form);
        let form = match have_same_effect(&candidates) {
            true => narrowest.0.form.into(),
            false => InsnForm::of_either(&narrowest.0, &other.unwrap_or(widest).0),
        };
        let mode = (candidates.len() == 1).then_some(narrowest.1);
        Some(PortInsn { decoded: by_count.0, form, mode })
    }
}

/// Keeps the candidates that meet a condition, unless none does.
fn keep_if_any<T>(candidates: &mut Vec<T>, condition: impl Fn(&T) -> bool) {
    if candidates.iter().any(&condition) {
        candidates.retain(condition);
    }
}

/// Only a `rep` depends on its address size: the width of the register with its count.
fn have_same_effect(candidates: &[(Decoded, Mode)]) -> bool {
    candidates.windows(2).all(|pair| {
        let [(a, _), (b, _)] = pair else { return true };
        let repeats = a.form.source() == PortSource::RepString;
        a.form == b.form && (!repeats || a.address_size == b.address_size)
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
    use crate::x86::PortForm;

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

    fn by_text(bytes: &[u8], text: &str) -> PortInsn {
        PortInsn::in_some_mode(bytes, || text.to_owned(), |_| true).unwrap()
    }

    #[test]
    fn the_disassembly_decides_the_operand_size() {
        let insn = by_text(&[0xed], "inw %dx, %ax");
        assert_eq!((insn.form, insn.mode), (PortForm::InAxDx.into(), Some(Mode::Bits16)));
        let insn = by_text(&[0xed], "inl %dx, %eax");
        assert_eq!((insn.form, insn.mode), (PortForm::InEaxDx.into(), None));
        let insn = by_text(&[0xee], "outb %al, %dx");
        assert_eq!((insn.form, insn.mode), (PortForm::OutDxAl.into(), None));
    }

    #[test]
    fn the_disassembly_decides_the_address_size_of_strings() {
        let insn = by_text(&[0xf3, 0x6c], "rep insb %dx, %es:(%edi)");
        assert_eq!((insn.form, insn.mode), (PortForm::RepInsb.into(), Some(Mode::Bits32)));
        let insn = by_text(&[0xf3, 0x6f], "rep outsl (%rsi), %dx");
        assert_eq!((insn.form, insn.mode), (PortForm::RepOutsd.into(), Some(Mode::Bits64)));
    }

    #[test]
    fn bytes_that_mean_the_same_in_all_modes_need_no_disassembly() {
        let insn = by_text(&[0xe6, 0x80], "");
        assert_eq!((insn.form, insn.mode), (PortForm::OutImmAl.into(), None));
        let insn = by_text(&[0x66, 0x48, 0xed], "inw %dx, %ax");
        assert_eq!((insn.form, insn.mode), (PortForm::InEaxDx.into(), Some(Mode::Bits64)));
    }

    #[test]
    fn what_nothing_decides_is_undecided() {
        let name = |bytes: &[u8], modes: &[Mode]| {
            let insn = PortInsn::in_some_mode(bytes, String::new, |mode| modes.contains(&mode));
            let insn = insn.unwrap();
            (insn.form.name(), insn.form.decided().is_some(), insn.mode)
        };
        let (narrow, protected) = (&[Mode::Bits16][..], &[Mode::Bits16, Mode::Bits32][..]);
        let (long, all) = (&[Mode::Bits32, Mode::Bits64][..], &Mode::ALL[..]);
        let out = &[0x66, 0xef];
        assert_eq!(name(out, narrow), ("out dx,eax", true, Some(Mode::Bits16)));
        assert_eq!(name(out, long), ("out dx,ax", true, None));
        assert_eq!(name(out, protected), ("out dx,ax|out dx,eax", false, None));
        assert_eq!(name(out, all), ("out dx,ax|out dx,eax", false, None));
        assert_eq!(name(out, &[]), ("out dx,ax|out dx,eax", false, None));
        assert_eq!(name(&[0x6c], all), ("insb", true, None));
        assert_eq!(name(&[0x6f], long), ("outsd", true, None));
        // The form is known, and the count is not.
        assert_eq!(name(&[0xf3, 0x6c], long), ("rep insb", false, None));
        assert_eq!(name(&[0xf3, 0x6f], long), ("rep outsd", false, None));
        assert_eq!(name(&[0xf3, 0x6f], all), ("rep outsw|rep outsd", false, None));
        let rep = PortInsn::in_some_mode(&[0xf3, 0x67, 0x6c], String::new, |_| true).unwrap();
        assert_eq!(rep.decoded.address_size, AddressSize::Bits32, "16-bit code has the widest");
    }

    #[test]
    fn registers_exclude_modes() {
        let modes = |rflags, cr0, efer, rip| {
            let registers = CodeRegisters { rflags, cs: 8, cr0, efer, rip };
            Mode::ALL.map(|mode| registers.allow(mode))
        };
        let (pe, lma) = (Cr0::PROTECTION_ENABLE, Efer::LONG_MODE_ACTIVE);
        let (none, vm) = (Rflags::empty(), Rflags::VIRTUAL_8086);
        assert_eq!(modes(none, Cr0::empty(), Efer::empty(), 0), [true, false, false]);
        assert_eq!(modes(vm, pe, Efer::empty(), 0), [true, false, false]);
        assert_eq!(modes(none, pe, Efer::empty(), 0), [true, true, false]);
        assert_eq!(modes(none, pe, lma, 0xffff_ffff), [true; 3]);
        assert_eq!(modes(none, pe, lma, 0x1_0000_0000), [false, false, true]);
    }
}
