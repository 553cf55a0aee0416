//! The linear address of an instruction when it runs.
//!
//! QEMU translates a physical page once for all linear addresses at which it is mapped, so the address at
//! translation is one of several. Within a block, QEMU's RIP is that of the block's start or of a later
//! instruction of the block. All instructions of a block begin in one page (QEMU ends a block there), so RIP and the
//! code segment's base give the page at run time.

use crate::qemu::Insn;

/// The bits of an address within a page.
const OFFSET: u64 = 0xfff;

/// What is known of an instruction's address when it is translated, whatever its page is called at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodeAddress {
    /// The base of the code segment, which is the same each time the translation runs; 0 in 64-bit code.
    pub base: u32,
    /// The offset in the page.
    pub offset: u16,
}

/// Where a token holds a [`CodeAddress`]: the offset in bits 16 to 27, the base in the upper half.
const OFFSET_SHIFT: u32 = 16;
const BASE_SHIFT: u32 = 32;

impl CodeAddress {
    /// The address of an instruction that is being translated.
    pub fn of(insn: &Insn<'_>) -> CodeAddress {
        CodeAddress { base: insn.code_base(), offset: (insn.pc() & OFFSET) as u16 }
    }

    /// The address at which the instruction runs, given RIP as a callback for it reads it.
    #[inline]
    pub fn at(self, rip: u64) -> u64 {
        with_page(self.offset.into(), linear(self.base, rip))
    }

    /// The part of a token that holds it: all but the low 16 bits.
    pub fn to_bits(self) -> u64 {
        u64::from(self.offset) << OFFSET_SHIFT | u64::from(self.base) << BASE_SHIFT
    }

    /// The inverse of [`CodeAddress::to_bits`], whatever the low 16 bits are.
    #[inline]
    pub fn from_bits(bits: u64) -> CodeAddress {
        CodeAddress {
            base: (bits >> BASE_SHIFT) as u32,
            offset: (bits >> OFFSET_SHIFT & OFFSET) as u16,
        }
    }
}

/// The linear address of an instruction pointer. A sum with a segment's base has 32 bits; without a base the pointer
/// itself is the address, in 64-bit code as well.
#[inline]
pub(super) fn linear(base: u32, rip: u64) -> u64 {
    match base {
        0 => rip,
        base => (rip as u32).wrapping_add(base).into(),
    }
}

/// The address at translation, of as many bits as the code has: QEMU does not always cut off what a segment's base
/// carries beyond 32.
pub(super) fn at_translation(insn: &Insn<'_>) -> u64 {
    cut(insn.pc(), insn.code_base())
}

/// An address of code with this segment base, of as many bits as the code has.
pub(super) fn cut(pc: u64, base: u32) -> u64 {
    match base {
        0 => pc,
        _ => pc & 0xffff_ffff,
    }
}

/// Whether QEMU's `reported` address is `pc`, which is an address at run time of code with this segment base.
pub(super) fn is_same(pc: u64, base: u32, reported: u64) -> bool {
    pc == cut(reported, base)
}

/// The address at the offset of `pc` in the page of another.
pub(super) fn with_page(pc: u64, page: u64) -> u64 {
    page & !OFFSET | pc & OFFSET
}

/// Whether two addresses are in one page.
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
        // F000:FFF0 of a processor at reset, and of the same code below 1 MiB.
        assert_eq!(CodeAddress { base: 0xffff_0000, offset: 0xff3 }.at(0xfff0), 0xffff_fff3);
        assert_eq!(CodeAddress { base: 0xf_0000, offset: 0xff3 }.at(0xfff0), 0xf_fff3);
        // A base that is not that of a page: EIP and address have different offsets.
        assert_eq!(CodeAddress { base: 0x1_2340, offset: 0x345 }.at(0x1000), 0x1_3345);
    }

    #[test]
    fn a_sum_with_a_base_has_32_bits() {
        assert_eq!(linear(0xffff_0000, 0x1_0010), 0x10);
        assert!(is_same(0x10, 0xffff_0000, 0x1_0000_0010));
        assert!(!is_same(0x10, 0, 0x1_0000_0010));
    }

    #[test]
    fn it_comes_back_out_of_a_token() {
        for (base, offset) in [(0, 0), (u32::MAX, 0xfff), (0xf_0000, 0x123)] {
            let address = CodeAddress { base, offset };
            assert_eq!(CodeAddress::from_bits(address.to_bits() | 0xffff), address);
            assert_eq!(address.to_bits() & 0xffff, 0);
        }
    }
}
