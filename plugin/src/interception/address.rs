//! The linear address of an instruction when it runs.
//!
//! QEMU translates a physical page once for all linear addresses at which it is mapped, so the address at translation
//! is one of several. Within a block, QEMU's RIP is that of the block's start or of a later instruction of the block.
//! All instructions of a block begin in one page (QEMU ends a block there), so RIP and the base of the code segment
//! give the page at run time.

use crate::qemu::Insn;

/// The bits of an address within a page.
const OFFSET: u64 = 0xfff;

/// The part of an instruction's address that is the same at every address at which its page is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodeAddress {
    /// The base of the code segment; 0 in 64-bit code. The same each time the translation runs.
    pub base: u32,
    /// The offset in the page, 0 to 0xfff.
    pub offset: u16,
}

impl CodeAddress {
    /// Returns this part of the address of an instruction that is being translated.
    pub fn of(insn: &Insn<'_>) -> CodeAddress {
        CodeAddress { base: insn.code_base(), offset: (insn.pc() & OFFSET) as u16 }
    }

    /// Returns the address at which the instruction runs, given RIP as a callback for it reads it.
    #[inline]
    pub fn at(self, rip: u64) -> u64 {
        with_page(self.offset.into(), linear(self.base, rip))
    }
}

/// Returns the linear address of an instruction pointer.
///
/// A sum with a segment's base has 32 bits. Without a base the pointer is the address, also in 64-bit code.
#[inline]
pub(super) fn linear(base: u32, rip: u64) -> u64 {
    match base {
        0 => rip,
        base => (rip as u32).wrapping_add(base).into(),
    }
}

/// Returns the address of an instruction at translation, cut to 32 bits if the code segment has a base.
///
/// QEMU does not always cut the sum with the base.
pub(super) fn at_translation(insn: &Insn<'_>) -> u64 {
    cut(insn.pc(), insn.code_base())
}

/// Cuts an address to 32 bits if the code segment has a base.
pub(super) fn cut(pc: u64, base: u32) -> u64 {
    match base {
        0 => pc,
        _ => pc & 0xffff_ffff,
    }
}

/// Returns true if an address that QEMU reports is `pc`, the run-time address of code with this segment base.
pub(super) fn is_same(pc: u64, base: u32, reported: u64) -> bool {
    pc == cut(reported, base)
}

/// Returns the address in the page of `page` with the page offset of `pc`.
pub(super) fn with_page(pc: u64, page: u64) -> u64 {
    page & !OFFSET | pc & OFFSET
}

/// Returns true if two addresses are in the same page.
#[inline]
pub(super) fn same_page(a: u64, b: u64) -> bool {
    (a ^ b) & !OFFSET == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_comes_from_rip_and_the_offset_from_the_translation() {
        let flat = CodeAddress { base: 0, offset: 0x085 };
        assert_eq!(flat.at(0x10_0080), 0x10_0085);
        assert_eq!(flat.at(0x8010_0080), 0x8010_0085);
        assert_eq!(flat.at(0xffff_ffff_8010_0080), 0xffff_ffff_8010_0085);
        // F000:FFF0 of a processor at reset, and the same code below 1 MiB.
        assert_eq!(CodeAddress { base: 0xffff_0000, offset: 0xff3 }.at(0xfff0), 0xffff_fff3);
        assert_eq!(CodeAddress { base: 0xf_0000, offset: 0xff3 }.at(0xfff0), 0xf_fff3);
        // A base that is not page-aligned: EIP and address have different page offsets.
        assert_eq!(CodeAddress { base: 0x1_2340, offset: 0x345 }.at(0x1000), 0x1_3345);
    }

    #[test]
    fn a_sum_with_a_base_has_32_bits() {
        assert_eq!(linear(0xffff_0000, 0x1_0010), 0x10);
        assert!(is_same(0x10, 0xffff_0000, 0x1_0000_0010));
        assert!(!is_same(0x10, 0, 0x1_0000_0010));
    }
}
