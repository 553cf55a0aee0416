//! The address size of an instruction: how much of the count and index registers it uses.

use super::Mode;

/// The part of RCX, RSI and RDI that a string instruction uses (SDM vol. 1, 3.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressSize {
    /// CX, SI, DI.
    Bits16,
    /// ECX, ESI, EDI.
    Bits32,
    /// RCX, RSI, RDI.
    Bits64,
}

impl AddressSize {
    /// All three, narrowest first.
    pub const ALL: [AddressSize; 3] =
        [AddressSize::Bits16, AddressSize::Bits32, AddressSize::Bits64];

    /// Returns the address size of code, with or without an address-size prefix.
    pub const fn of(mode: Mode, has_prefix: bool) -> AddressSize {
        match (mode, has_prefix) {
            (Mode::Bits16, false) | (Mode::Bits32, true) => AddressSize::Bits16,
            (Mode::Bits32, false) | (Mode::Bits16 | Mode::Bits64, true) => AddressSize::Bits32,
            (Mode::Bits64, false) => AddressSize::Bits64,
        }
    }

    /// Returns the greatest value of an index register of this size.
    pub const fn mask(self) -> u64 {
        match self {
            AddressSize::Bits16 => 0xffff,
            AddressSize::Bits32 => 0xffff_ffff,
            AddressSize::Bits64 => u64::MAX,
        }
    }

    /// Returns the count that a `rep` takes from this value of RCX.
    pub const fn count(self, rcx: u64) -> u64 {
        rcx & self.mask()
    }

    /// Returns a general register after a write of `value` to this part of it.
    ///
    /// A write of 16 bits keeps the upper bits of `before`; a write of 32 bits clears them (SDM vol. 1, 3.4.1.1).
    pub const fn written(self, before: u64, value: u64) -> u64 {
        match self {
            AddressSize::Bits16 => before & !0xffff | value & 0xffff,
            AddressSize::Bits32 | AddressSize::Bits64 => value & self.mask(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_of_16_bits_keeps_the_upper_bits_and_one_of_32_clears_them() {
        assert_eq!(
            AddressSize::Bits16.written(0x1234_5678_9abc_def0, 0x5_1111),
            0x1234_5678_9abc_1111
        );
        assert_eq!(AddressSize::Bits32.written(0x1234_5678_9abc_def0, 0x1111), 0x1111);
        assert_eq!(AddressSize::Bits64.written(1, u64::MAX), u64::MAX);
    }
}
