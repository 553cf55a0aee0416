//! A program: code and initial state.

use std::fmt;

use pvio::x86::{Mode, intel_syntax};

use super::Instruction;
use super::layout::distances;

/// The kinds of code on x86.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeKind {
    /// Real mode.
    Real,
    /// Virtual-8086 mode.
    Virtual8086,
    /// 16-bit protected mode.
    Protected16,
    /// 32-bit protected mode.
    Protected32,
    /// Compatibility mode, 16-bit code.
    Compatibility16,
    /// Compatibility mode, 32-bit code.
    Compatibility32,
    /// 64-bit mode.
    Long64,
}

impl CodeKind {
    /// All seven kinds.
    pub const ALL: [CodeKind; 7] = [
        CodeKind::Real,
        CodeKind::Virtual8086,
        CodeKind::Protected16,
        CodeKind::Protected32,
        CodeKind::Compatibility16,
        CodeKind::Compatibility32,
        CodeKind::Long64,
    ];

    /// 16, 32 or 64.
    pub fn bits(self) -> u32 {
        match self {
            CodeKind::Protected32 | CodeKind::Compatibility32 => 32,
            CodeKind::Long64 => 64,
            _ => 16,
        }
    }

    /// The plugin's name for it.
    pub fn mode(self) -> Mode {
        match self.bits() {
            16 => Mode::Bits16,
            32 => Mode::Bits32,
            _ => Mode::Bits64,
        }
    }

    /// Returns true if it runs in long mode.
    pub fn is_long(self) -> bool {
        self.runner() == 3
    }

    /// Returns true if a segment's base is sixteen times its selector.
    pub fn has_paragraphs(self) -> bool {
        matches!(self, CodeKind::Real | CodeKind::Virtual8086)
    }

    /// The guest's number for it.
    pub fn runner(self) -> u32 {
        match self {
            CodeKind::Real => 0,
            CodeKind::Virtual8086 => 1,
            CodeKind::Protected16 | CodeKind::Protected32 => 2,
            CodeKind::Compatibility16 | CodeKind::Compatibility32 | CodeKind::Long64 => 3,
        }
    }
}

/// The segment registers, in the order of their encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentName {
    /// ES, where `ins` writes.
    Es,
    /// CS.
    Cs,
    /// SS.
    Ss,
    /// DS, where `outs` reads unless a prefix selects another.
    Ds,
    /// FS, which has a base in 64-bit code too.
    Fs,
    /// GS, which also has a base in 64-bit code.
    Gs,
}

impl SegmentName {
    /// The segment of a prefix.
    pub fn of_prefix(prefix: u8) -> Option<SegmentName> {
        Some(match prefix {
            0x26 => SegmentName::Es,
            0x2e => SegmentName::Cs,
            0x36 => SegmentName::Ss,
            0x3e => SegmentName::Ds,
            0x64 => SegmentName::Fs,
            0x65 => SegmentName::Gs,
            _ => return None,
        })
    }
}

/// The contents of a segment register.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    /// The visible part.
    pub selector: u16,
    /// The base that the CPU adds.
    pub base: u64,
}

/// The general registers that programs use on purpose, in the order of their encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Register {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
}

/// The names of all sixteen general registers.
pub const REGISTER_NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// A program.
#[derive(Clone, Debug)]
pub struct Program {
    /// The kind of code.
    pub kind: CodeKind,
    /// The physical address of its first byte.
    pub code_at: u64,
    /// The distance from there to the linear address at which it runs.
    pub distance: u64,
    /// The instructions without the final `int`.
    pub instructions: Vec<Instruction>,
    /// The general registers, by [`Register`].
    pub registers: [u64; 16],
    /// RFLAGS.
    pub flags: u64,
    /// The segment registers, by [`SegmentName`].
    pub segments: [Segment; 6],
}

impl Program {
    /// The end of every program: `int 0x30`.
    pub const END: [u8; 2] = [0xcd, 0x30];

    /// Returns true if the direction flag is set.
    pub fn goes_down(&self) -> bool {
        self.flags & 1 << 10 != 0
    }

    /// The initial value of a register.
    pub fn register(&self, register: Register) -> u64 {
        self.registers[register as usize]
    }

    /// The base of a segment for addresses in this code.
    pub fn base(&self, segment: SegmentName) -> u64 {
        match (self.kind, segment) {
            (_, SegmentName::Fs | SegmentName::Gs) => self.segments[segment as usize].base,
            (CodeKind::Long64, _) => 0,
            _ => self.segments[segment as usize].base,
        }
    }

    /// The linear address of its first instruction.
    pub fn runs_at(&self) -> u64 {
        self.code_at.wrapping_add(self.distance)
    }

    /// The same program at every linear address of its pages.
    pub fn at_aliases(&self) -> impl Iterator<Item = Program> {
        distances(self.kind).iter().map(|&distance| Program { distance, ..self.clone() })
    }

    /// Each instruction's linear address and bytes.
    pub fn places(&self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        self.instructions.iter().scan(self.runs_at(), |pc, instruction| {
            let here = *pc;
            *pc += instruction.bytes.len() as u64;
            Some((here, instruction.bytes.clone()))
        })
    }

    /// Its bytes with the final `int`.
    pub fn code(&self) -> Vec<u8> {
        let instructions = self.instructions.iter().flat_map(|instruction| &instruction.bytes);
        instructions.copied().chain(Self::END).collect()
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}, flags {:#x}", self.kind, self.flags)?;
        for names in [0..4, 4..8, 8..12, 12..16] {
            for register in names {
                write!(f, "  {}={:#x}", REGISTER_NAMES[register], self.registers[register])?;
            }
            writeln!(f)?;
        }
        for (name, segment) in ["es", "cs", "ss", "ds", "fs", "gs"].iter().zip(self.segments) {
            write!(f, "  {name}={:#x} (base {:#x})", segment.selector, segment.base)?;
        }
        writeln!(f)?;
        for (pc, bytes) in self.places() {
            let hexadecimal = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let text = intel_syntax(&bytes, self.kind.mode(), pc);
            writeln!(f, "  {pc:#x}: {hexadecimal:<30} {text}")?;
        }
        write!(f, "  and int 0x30")
    }
}
