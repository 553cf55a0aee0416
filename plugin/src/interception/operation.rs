//! A watched instruction as it was translated, and as it runs.
//!
//! What was translated fits into 64 bits, so that QEMU can carry it through its callbacks and nothing has to be
//! allocated for it, or freed.

use super::address::{self, CodeAddress};
use crate::qemu::Token;
use crate::stats::SiteId;
use crate::x86::{AddressSize, Decoded, Port, PortForm};

/// A port I/O instruction that QEMU has translated.
///
/// | bits | |
/// | --- | --- |
/// | 0-4 | the form's index |
/// | 5 | whether it is known to be privileged |
/// | 7-14 | of a string instruction, the address size; of another, the immediate port |
/// | 15 | whether the site at the address of the translation has a row |
/// | 16-31 | then the row, else the offset in the page |
/// | 32-63 | the base of the code segment |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Translated(u64);

const PRIVILEGED: u64 = 1 << 5;
const HAS_ROW: u64 = 1 << 15;
const ROW_SHIFT: u32 = 16;
const BASE_SHIFT: u32 = 32;

impl Translated {
    /// `privileged`: it may do port I/O whatever the TSS says. `site` is that of the address of the translation.
    pub fn new(
        decoded: Decoded,
        site: Option<SiteId>,
        address: CodeAddress,
        privileged: bool,
    ) -> Translated {
        const { assert!(crate::stats::MAX_SITES <= 1 << (BASE_SHIFT - ROW_SHIFT)) };
        let form = decoded.form.index() as u64;
        let bits_7_14 = match decoded.form.is_string() {
            true => decoded.address_size as u64,
            false => decoded.immediate.map_or(0, |port| u64::from(port.0)),
        };
        let privileged = if privileged { PRIVILEGED } else { 0 };
        let upper = match site {
            Some(SiteId(row)) => {
                HAS_ROW | u64::from(row) << ROW_SHIFT | u64::from(address.base) << BASE_SHIFT
            }
            None => address.to_bits(),
        };
        Translated(form | privileged | bits_7_14 << 7 | upper)
    }

    pub fn to_token(self) -> Token {
        Token(self.0)
    }

    #[inline]
    pub fn from_token(token: Token) -> Translated {
        Translated(token.0)
    }

    #[inline]
    pub fn form(self) -> PortForm {
        PortForm::ALL[(self.0 & 0x1f) as usize]
    }

    fn is_privileged(self) -> bool {
        self.0 & PRIVILEGED != 0
    }

    /// The site at the address of the translation, of an `in` or `out` that cannot fault, if it has a row.
    #[inline]
    pub fn plain_site(self) -> Option<SiteId> {
        const { assert!(PortForm::OutDxEax.index() == 11 && PortForm::Insb.index() == 12) };
        let is_scalar = self.0 & 0x1f <= PortForm::OutDxEax.index() as u64;
        let is_plain = is_scalar && self.0 & (HAS_ROW | PRIVILEGED) == HAS_ROW | PRIVILEGED;
        is_plain.then_some(SiteId((self.0 >> ROW_SHIFT) as u16 as u32))
    }

    /// The site at the address of the translation, if it has a row.
    pub fn site(self) -> Option<SiteId> {
        (self.0 & HAS_ROW != 0).then_some(SiteId((self.0 >> ROW_SHIFT) as u16 as u32))
    }

    /// The base of the code segment.
    #[inline]
    pub fn base(self) -> u32 {
        (self.0 >> BASE_SHIFT) as u32
    }

    /// The port in the instruction; meaningful for the immediate forms only.
    #[inline]
    pub fn immediate(self) -> Port {
        Port((self.0 >> 7 & 0xff) as u16)
    }

    /// The instruction at the address at which it runs. `address` is given that of the translation's site.
    pub fn runs(self, site: Option<SiteId>, pc: u64) -> Operation {
        let bits = (self.0 >> 7 & 0xff) as u8;
        Operation {
            form: self.form(),
            immediate_or_size: bits,
            privileged: self.is_privileged(),
            base: self.base(),
            pc,
            site,
        }
    }

    /// The address at which it runs, of an instruction whose translation's site has no row.
    pub fn pc_without_row(self, rip: u64) -> u64 {
        CodeAddress::from_bits(self.0).at(rip)
    }
}

/// A port I/O instruction that is about to run. Two are equal where one may be the other, started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    form: PortForm,
    /// The immediate port of a scalar; the address size of a string instruction.
    immediate_or_size: u8,
    privileged: bool,
    base: u32,
    pc: u64,
    site: Option<SiteId>,
}

impl Operation {
    pub fn form(&self) -> PortForm {
        self.form
    }

    /// Whether it is known to be privileged: it cannot get #GP for want of IOPL or of a bit in the TSS.
    pub fn is_privileged(&self) -> bool {
        self.privileged
    }

    /// Meaningful for string instructions only.
    pub fn address_size(&self) -> AddressSize {
        AddressSize::ALL[usize::from(self.immediate_or_size & 3)]
    }

    /// The port in the instruction; meaningful for the immediate forms only.
    pub fn immediate(&self) -> Port {
        Port(self.immediate_or_size.into())
    }

    /// The site, if it has a row of its own.
    pub fn site(&self) -> Option<SiteId> {
        self.site
    }

    /// The linear address.
    pub fn pc(&self) -> u64 {
        self.pc
    }

    /// Whether an address that QEMU reports is that of this instruction.
    pub fn is_at(&self, reported: u64) -> bool {
        address::is_same(self.pc, self.base, reported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::{Mode, decode};

    #[test]
    fn everything_comes_back_out_of_the_token() {
        let codes: [&[u8]; 4] = [&[0xe6, 0xf4], &[0xee], &[0xf3, 0x67, 0x6d], &[0x6e]];
        for (code, mode) in codes.iter().flat_map(|code| Mode::ALL.map(|mode| (code, mode))) {
            let decoded = decode(code, mode).unwrap();
            let sites = [None, Some(SiteId(0)), Some(SiteId(0xffff))];
            for (site, privileged) in sites.iter().flat_map(|&site| [(site, false), (site, true)]) {
                let address = CodeAddress { base: 0x8765_4321, offset: 0x567 };
                let translated = Translated::new(decoded, site, address, privileged);
                let translated = Translated::from_token(translated.to_token());
                assert_eq!(translated.site(), site);
                assert_eq!(translated.base(), address.base);
                let is_plain = privileged && !decoded.form.is_string();
                assert_eq!(translated.plain_site(), site.filter(|_| is_plain));
                if site.is_none() {
                    assert_eq!(translated.pc_without_row(0x1000), address.at(0x1000));
                }
                let operation = translated.runs(site, 0x1234);
                assert_eq!(operation.form(), decoded.form);
                assert_eq!(operation.is_privileged(), privileged);
                assert_eq!((operation.site(), operation.pc()), (site, 0x1234));
                if decoded.form.is_string() {
                    assert_eq!(operation.address_size(), decoded.address_size);
                }
                if let Some(port) = decoded.immediate {
                    assert_eq!(operation.immediate(), port);
                    assert_eq!(translated.immediate(), port);
                }
            }
        }
    }
}
