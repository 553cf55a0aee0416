//! Bytes to which records are appended, byte by byte.
//!
//! A record is not built elsewhere and copied: a wide load of bytes that were stored one by one waits until they are in
//! the cache.

use pvio_x86::AccessSize;

use super::record::len_of_value;

/// The contents of a chunk.
#[derive(Debug, Default)]
pub(super) struct Bytes(pub Vec<u8>);

impl Bytes {
    #[inline]
    pub fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// Appends an unsigned LEB128, as `integer-encoding` decodes it.
    #[inline]
    pub fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    /// Appends a signed number, zigzag-encoded.
    #[inline]
    pub fn signed(&mut self, number: i64) {
        self.number((number << 1 ^ number >> 63) as u64);
    }

    /// Appends the bytes that an access of this size moves.
    #[inline]
    pub fn value(&mut self, value: u32, size: AccessSize) {
        for byte in value.to_le_bytes().into_iter().take(len_of_value(size)) {
            self.byte(byte);
        }
    }

    pub fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use integer_encoding::VarInt;

    use super::*;

    #[test]
    fn numbers_are_those_of_the_library() {
        let powers = (0..64).map(|power| 1u64 << power);
        for number in powers.flat_map(|power| [power - 1, power, power + 1]).chain([0, u64::MAX]) {
            let mut bytes = Bytes::default();
            bytes.number(number);
            bytes.signed(number as i64);
            bytes.signed((number as i64).wrapping_neg());
            let expected = [
                number.encode_var_vec(),
                (number as i64).encode_var_vec(),
                (number as i64).wrapping_neg().encode_var_vec(),
            ];
            assert_eq!(bytes.0, expected.concat(), "{number:#x}");
        }
    }
}
