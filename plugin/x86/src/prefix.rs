//! Instruction prefixes (SDM vol. 2, 2.1.1 and 2.2.1).

/// A segment register, by the processor's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// ES, the destination of `ins`.
    Es,
    /// CS.
    Cs,
    /// SS.
    Ss,
    /// DS, the source of `outs` without a segment prefix.
    Ds,
    /// FS.
    Fs,
    /// GS.
    Gs,
}

impl Segment {
    /// All six, in the order of the processor's numbers.
    pub const ALL: [Segment; 6] =
        [Segment::Es, Segment::Cs, Segment::Ss, Segment::Ds, Segment::Fs, Segment::Gs];

    /// Returns the processor's number, 0 to 5.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// One byte that may stand before an opcode.
///
/// ```
/// use pvio_x86::{Prefix, Segment};
///
/// assert_eq!(Prefix::of(0x2e), Some(Prefix::Segment(Segment::Cs)));
/// assert_eq!(Prefix::of(0x48), Some(Prefix::Rex { w: true }));
/// assert_eq!(Prefix::of(0xee), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// 26, 2E, 36, 3E, 64, 65: the segment of a memory operand. 64-bit code ignores all but FS and GS.
    Segment(Segment),
    /// 66: the other operand size.
    OperandSize,
    /// 67: the other address size.
    AddressSize,
    /// F0. Port I/O and VMRUN are undefined with it.
    Lock,
    /// F2 or F3, which port I/O treats alike.
    Repeat,
    /// 40 to 4F in 64-bit code. In other code these bytes are INC and DEC: whole instructions.
    Rex {
        /// REX.W: 64-bit operands. Port I/O stays at 32 bits.
        w: bool,
    },
}

impl Prefix {
    /// Returns the prefix that a byte is, in some mode.
    #[inline]
    pub const fn of(byte: u8) -> Option<Prefix> {
        Some(match byte {
            0x26 => Prefix::Segment(Segment::Es),
            0x2e => Prefix::Segment(Segment::Cs),
            0x36 => Prefix::Segment(Segment::Ss),
            0x3e => Prefix::Segment(Segment::Ds),
            0x64 => Prefix::Segment(Segment::Fs),
            0x65 => Prefix::Segment(Segment::Gs),
            0x66 => Prefix::OperandSize,
            0x67 => Prefix::AddressSize,
            0xf0 => Prefix::Lock,
            0xf2 | 0xf3 => Prefix::Repeat,
            0x40..=0x4f => Prefix::Rex { w: byte & 8 != 0 },
            _ => return None,
        })
    }
}
