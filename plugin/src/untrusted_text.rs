//! Makes text from the guest safe to show in a terminal.

use std::fmt::Write as _;

/// Escapes control characters, and shows bytes that are not UTF-8 as `\x..`.
pub fn escape(text: &[u8]) -> String {
    let mut safe = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match is_harmless(character) {
                true => safe.push(character),
                false => safe.extend(character.escape_default()),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(safe, "\\x{byte:02x}");
        }
    }
    safe
}

/// Returns true if a terminal only displays the character. Unicode also has characters that reorder text
/// (UAX #9) or break lines.
fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_bidi_characters_are_escaped() {
        assert_eq!(escape("grüße, 世界 \\".as_bytes()), "grüße, 世界 \\");
        assert_eq!(escape(b"a\nb\x1b[2J\x7f\t\0"), "a\\nb\\u{1b}[2J\\u{7f}\\t\\u{0}");
        assert_eq!(
            escape("\u{9b}31m \u{202e}abc\u{2066}".as_bytes()),
            "\\u{9b}31m \\u{202e}abc\\u{2066}"
        );
        assert_eq!(escape(b"\xff\xc3(\xe2\x82"), "\\xff\\xc3(\\xe2\\x82");
    }
}
