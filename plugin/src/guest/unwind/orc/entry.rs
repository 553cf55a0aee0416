//! Entries of ORC tables (`struct orc_entry`), whose layout differs between kernels.

/// The size of a `struct orc_entry` in bytes.
pub(super) const ENTRY: u64 = 6;

/// The layout of the flags in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Two bits of type, and a bit that ends the stack.
    Before6_4,
    /// Three bits of type, one value of which ends the stack, and a signal bit.
    Since6_4,
    /// As `Since6_4` with other numbers for registers (7.3 has it).
    Renumbered,
}

impl Layout {
    pub(super) const ALL: [Layout; 3] = [Layout::Before6_4, Layout::Since6_4, Layout::Renumbered];
}

/// The register to which an offset in an entry is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Undefined,
    PreviousSp,
    Ax,
    Di,
    Dx,
    Bp,
    Sp,
    R10,
    R13,
    BpIndirect,
    SpIndirect,
    Invalid,
}

impl Base {
    fn decode(bits: u16, layout: Layout) -> Base {
        match (bits & 15, layout) {
            (0, _) => Base::Undefined,
            (2, _) => Base::Dx,
            (4, _) => Base::Bp,
            (6, _) => Base::R10,
            (7, _) => Base::R13,
            (9, _) => Base::SpIndirect,
            (1, Layout::Renumbered) => Base::Ax,
            (3, Layout::Renumbered) => Base::Sp,
            (5, Layout::Renumbered) => Base::Di,
            (8, Layout::Renumbered) => Base::PreviousSp,
            (10, Layout::Renumbered) => Base::BpIndirect,
            (1, _) => Base::PreviousSp,
            (3, _) => Base::Di,
            (5, _) => Base::Sp,
            (8, _) => Base::BpIndirect,
            _ => Base::Invalid,
        }
    }
}

/// The kind of frame between a function's stack and its caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Undefined,
    EndOfStack,
    /// A return address.
    Call,
    /// A `pt_regs`.
    Regs,
    /// The part of a `pt_regs` that the processor pushed.
    RegsPartial,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) sp_offset: i32,
    pub(super) bp_offset: i32,
    pub(super) sp_base: Base,
    pub(super) bp_base: Base,
    pub(super) kind: Kind,
    /// True if the next frame was interrupted, instead of having called.
    pub(super) is_signal: bool,
}

impl Entry {
    pub(super) fn decode(bytes: [u8; ENTRY as usize], layout: Layout) -> Entry {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let offset = |at| i32::from(word(at) as i16);
        let flags = word(4);
        let sp_base = Base::decode(flags, layout);
        let (kind, is_signal) = match layout {
            Layout::Before6_4 => {
                let kind = match (sp_base, flags >> 8 & 3) {
                    // 6.3 has the bit that ends the stack after a signal bit, others in its place.
                    (Base::Undefined, _) if flags & 0xc00 != 0 => Kind::EndOfStack,
                    (Base::Undefined, _) => Kind::Undefined,
                    (_, 0) => Kind::Call,
                    (_, 1) => Kind::Regs,
                    (_, 2) => Kind::RegsPartial,
                    _ => Kind::Undefined,
                };
                (kind, kind != Kind::Call)
            }
            Layout::Since6_4 | Layout::Renumbered => {
                let kind = match flags >> 8 & 7 {
                    1 => Kind::EndOfStack,
                    2 => Kind::Call,
                    3 => Kind::Regs,
                    4 => Kind::RegsPartial,
                    _ => Kind::Undefined,
                };
                (kind, flags & 0x800 != 0)
            }
        };
        let bp_base = Base::decode(flags >> 4, layout);
        Entry { sp_offset: offset(0), bp_offset: offset(2), sp_base, bp_base, kind, is_signal }
    }
}
