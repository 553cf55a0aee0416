//! Names in which `*` stands for any characters.

/// A name, or the shape of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The parts between the stars.
    parts: Vec<String>,
}

impl Pattern {
    /// Makes a pattern of a text.
    pub fn new(text: &str) -> Pattern {
        Pattern { parts: text.split('*').map(str::to_owned).collect() }
    }

    /// Returns true if the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        let (first, rest) = self.parts.split_first().expect("a split has a part");
        let Some((last, middle)) = rest.split_last() else { return text == first };
        let Some(mut left) = text.strip_prefix(&**first) else { return false };
        for part in middle {
            // The leftmost place leaves most for what follows.
            let Some(at) = left.find(&**part) else { return false };
            left = &left[at + part.len()..];
        }
        left.ends_with(&**last)
    }

    /// Returns true if a symbol as pvio writes it, such as `outb+0x4 [module]`, has this shape: as a whole, or without the offset,
    /// or without the module too.
    pub fn matches_symbol(&self, symbol: &str) -> bool {
        let (place, module) = match symbol.rfind(" [") {
            Some(at) if symbol.ends_with(']') => symbol.split_at(at),
            _ => (symbol, ""),
        };
        let name = match place.rsplit_once("+0x") {
            Some((name, offset)) if offset.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
            _ => place,
        };
        self.matches(name) || self.matches(symbol) || self.matches(&format!("{name}{module}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let matches = |pattern: &str, text: &str| Pattern::new(pattern).matches(text);
        assert!(matches("outb", "outb") && !matches("outb", "outbs") && !matches("outb", "foutb"));
        assert!(matches("io_*_out", "io_serial_out") && matches("*", "") && matches("**", "a"));
        assert!(!matches("io_*_out", "io_out") && !matches("a*a", "a") && matches("a*a", "aa"));
        assert!(matches("*b*a*", "abba") && !matches("*b*c*", "abba"));
        assert!(matches("a*b*b", "abb") && !matches("a*b*b", "ab"));
    }

    #[test]
    fn a_symbol_matches_with_and_without_offset_and_module() {
        let matches =
            |pattern: &str| Pattern::new(pattern).matches_symbol("ata_outb+0x1f [libata]");
        for pattern in ["ata_outb", "ata_*", "*[libata]", "ata_outb [libata]", "ata_outb+0x1f*"] {
            assert!(matches(pattern), "{pattern}");
        }
        assert!(!matches("ata_out") && !matches("libata") && !matches("*[ata]"));
        assert!(Pattern::new("operator+").matches_symbol("operator+"));
    }
}
