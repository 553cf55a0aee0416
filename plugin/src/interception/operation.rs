//! A watched instruction in 64 bits, so that QEMU can carry it through its callbacks and nothing
//! has to be allocated for it, or freed.

use crate::qemu::Token;
use crate::stats::SiteId;
use crate::x86::{AddressSize, Decoded, Port, PortForm};

/// A port I/O instruction somewhere in the guest.
///
/// | bits | |
/// | --- | --- |
/// | 0-4 | the form's index |
/// | 5-6 | of a string instruction, the address size; of another, whether it is known to be privileged |
/// | 7-14 | of a string instruction, whether it is known to be privileged; of another, the immediate port |
/// | 15 | whether the site has a row of its own |
/// | 16-63 | then the row, else the low 48 bits of the address |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation(u64);

const ADDRESS_SIZES: [AddressSize; 3] =
    [AddressSize::Bits16, AddressSize::Bits32, AddressSize::Bits64];
const HAS_ROW: u64 = 1 << 15;
const HIGH_SHIFT: u32 = 16;

impl Operation {
    /// `privileged`: where it was translated, it may do port I/O whatever the TSS says.
    pub fn new(decoded: Decoded, site: Option<SiteId>, pc: u64, privileged: bool) -> Operation {
        let form = decoded.form.index() as u64;
        let (bits_5_6, bits_7_14) = match decoded.form.is_string() {
            true => (decoded.address_size as u64, u64::from(privileged)),
            false => (u64::from(privileged), decoded.immediate.map_or(0, |port| u64::from(port.0))),
        };
        let high = match site {
            Some(SiteId(row)) => HAS_ROW | u64::from(row) << HIGH_SHIFT,
            None => pc << HIGH_SHIFT,
        };
        Operation(form | bits_5_6 << 5 | bits_7_14 << 7 | high)
    }

    pub fn to_token(self) -> Token {
        Token(self.0)
    }

    pub fn from_token(token: Token) -> Operation {
        Operation(token.0)
    }

    pub fn form(self) -> PortForm {
        PortForm::ALL[(self.0 & 0x1f) as usize]
    }

    /// Whether it is known to be privileged: it cannot get #GP for want of IOPL or of a bit in the TSS.
    pub fn is_privileged(self) -> bool {
        let bit = if self.form().is_string() { 7 } else { 5 };
        self.0 >> bit & 1 != 0
    }

    /// The site of an `in` or `out` that cannot fault, if it has a row of its own.
    #[inline]
    pub fn plain_site(self) -> Option<SiteId> {
        const { assert!(PortForm::OutDxEax.index() == 11 && PortForm::Insb.index() == 12) };
        let is_scalar = self.0 & 0x1f <= PortForm::OutDxEax.index() as u64;
        const WITH_ROW_AND_PRIVILEGE: u64 = HAS_ROW | 1 << 5;
        let is_plain = is_scalar && self.0 & WITH_ROW_AND_PRIVILEGE == WITH_ROW_AND_PRIVILEGE;
        is_plain.then_some(SiteId((self.0 >> HIGH_SHIFT) as u32))
    }

    /// Meaningful for string instructions only.
    pub fn address_size(self) -> AddressSize {
        ADDRESS_SIZES[(self.0 >> 5 & 3) as usize]
    }

    /// The port in the instruction; meaningful for the immediate forms only.
    pub fn immediate(self) -> Port {
        Port((self.0 >> 7 & 0xff) as u16)
    }

    pub fn site(self) -> Option<SiteId> {
        (self.0 & HAS_ROW != 0).then_some(SiteId((self.0 >> HIGH_SHIFT) as u32))
    }

    /// The linear address of the instruction, given that of its site.
    ///
    /// One without a row is known by 48 bits of its address, which on any machine with 4-level
    /// paging is all of it.
    pub fn address(self, address_of: impl FnOnce(SiteId) -> u64) -> u64 {
        match self.site() {
            Some(site) => address_of(site),
            // Canonical: the upper bits are copies of bit 47.
            None => (self.0 as i64 >> HIGH_SHIFT) as u64,
        }
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
            let sites = [None, Some(SiteId(0)), Some(SiteId(u32::MAX))];
            for (site, privileged) in sites.iter().flat_map(|&site| [(site, false), (site, true)]) {
                let pc = 0xffff_ffff_8123_4567;
                let operation = Operation::new(decoded, site, pc, privileged);
                let operation = Operation::from_token(operation.to_token());
                assert_eq!(operation.form(), decoded.form);
                assert_eq!(operation.is_privileged(), privileged);
                if decoded.form.is_string() {
                    assert_eq!(operation.address_size(), decoded.address_size);
                }
                assert_eq!(operation.site(), site);
                let is_plain = privileged && !decoded.form.is_string();
                assert_eq!(operation.plain_site(), site.filter(|_| is_plain));
                if let Some(port) = decoded.immediate {
                    assert_eq!(operation.immediate(), port);
                }
                assert_eq!(operation.address(|_| pc), pc);
            }
        }
    }
}
