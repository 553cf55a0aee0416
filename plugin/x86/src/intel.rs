//! Intel syntax, for people to read.

use iced_x86::Formatter;

use super::Mode;

/// Formats an instruction in Intel syntax.
///
/// `pc` is its address, which relative branches need. Bytes that iced cannot decode in `mode` give iced's own `(bad)`.
///
/// ```
/// use pvio_x86::{Mode, intel_syntax};
///
/// assert_eq!(intel_syntax(&[0xf3, 0x6d], Mode::Bits16, 0), "rep insw [di],dx");
/// ```
pub fn intel_syntax(bytes: &[u8], mode: Mode, pc: u64) -> String {
    let mut decoder = iced_x86::Decoder::with_ip(mode.bits(), bytes, pc, 0);
    let mut text = String::new();
    let mut formatter = iced_x86::IntelFormatter::new();
    formatter.options_mut().set_uppercase_hex(false);
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    formatter.options_mut().set_small_hex_numbers_in_decimal(false);
    formatter.format(&decoder.decode(), &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_lower_case_hex_and_the_operands_of_the_mode() {
        assert_eq!(intel_syntax(&[0xee], Mode::Bits32, 0), "out dx,al");
        assert_eq!(intel_syntax(&[0xe6, 0x80], Mode::Bits16, 0), "out 0x80,al");
        assert_eq!(intel_syntax(&[0xf3, 0x6d], Mode::Bits16, 0), "rep insw [di],dx");
        assert_eq!(intel_syntax(&[0xf3, 0x6f], Mode::Bits64, 0), "rep outsd dx,[rsi]");
    }
}
