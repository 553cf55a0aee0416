//! Quotes text of a guest or of QEMU in one line of a report.

use crate::stats::text_table::printable;

/// Maximum length of a quotation, in characters.
const LIMIT: usize = 512;

/// Escapes control characters and line breaks, and leaves out the middle of a long text.
pub(super) fn one_line(text: &str) -> String {
    let count = text.chars().count();
    if count <= LIMIT {
        return printable(text);
    }
    // The end matters too: it is the guest's last output.
    let half = LIMIT / 2;
    let begin = printable(&text.chars().take(half).collect::<String>());
    let end = printable(&text.chars().skip(count - half).collect::<String>());
    let left_out = count - 2 * half;
    let characters = if left_out == 1 { "character" } else { "characters" };
    format!("{begin} [{left_out} {characters} left out] {end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middle_of_a_long_text_is_left_out() {
        assert_eq!(one_line("grüße \\ \"'"), "grüße \\ \"'");
        let longest = "ü".repeat(LIMIT);
        assert_eq!(one_line(&longest), longest);
        let line = one_line(&format!("begin{}end", "\x1b".repeat(4_000_000)));
        assert!(line.starts_with("begin\\u{1b}") && line.ends_with("\\u{1b}end"));
        assert!(line.contains(&format!(" [{} characters left out] ", 4_000_008 - LIMIT)));
        assert!(line.len() < 10 * LIMIT, "{}", line.len());
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(one_line("a\nb\r\u{9b}31m\u{202e}"), "a\\nb\\r\\u{9b}31m\\u{202e}");
    }
}
