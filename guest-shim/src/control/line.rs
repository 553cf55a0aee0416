//! Formats text for the log without an allocator.

use core::fmt;

use super::{Level, log};
use crate::error::CallError;

/// A line of at most `N` bytes.
///
/// Longer text is cut between two characters, and the line then ends with `...`.
///
/// ```
/// use core::fmt::Write;
/// use pvio_guest::control::{Level, Line};
///
/// let mut line = Line::<16>::new();
/// write!(line, "port {:#06x}: {}", 0x3f8, "ready")?;
/// assert_eq!(line.as_str(), "port 0x03f8: ...");
/// let _ = line.log(Level::Info);
/// # Ok::<(), core::fmt::Error>(())
/// ```
#[derive(Clone)]
pub struct Line<const N: usize = 256> {
    text: [u8; N],
    len: usize,
    is_cut: bool,
}

/// The end of a line that was cut.
const MARK: &str = "...";

impl<const N: usize> Line<N> {
    /// An empty line. `N` must be at least 3, or it does not compile.
    pub const fn new() -> Line<N> {
        const { assert!(N >= MARK.len(), "a line has at least room for the mark of a cut") };
        Line { text: [0; N], len: 0, is_cut: false }
    }

    /// A line from `format_args!`.
    ///
    /// ```
    /// use pvio_guest::control::Line;
    ///
    /// let line: Line = Line::of(format_args!("{} of {}", 1, 2));
    /// assert_eq!(line.as_str(), "1 of 2");
    /// ```
    pub fn of(arguments: fmt::Arguments<'_>) -> Line<N> {
        let mut line = Line::new();
        // Only a value's own `Display` can fail; the text before it is still of use.
        let _ = fmt::Write::write_fmt(&mut line, arguments);
        line
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // The text consists of whole characters.
        core::str::from_utf8(&self.text[..self.len]).unwrap_or("")
    }

    /// Returns true if the line was cut.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Logs the line.
    ///
    /// # Errors
    ///
    /// The same as for [`log`].
    pub fn log(&self, level: Level) -> Result<(), CallError> {
        log(level, self.as_str())
    }

    /// Removes all text.
    pub fn clear(&mut self) {
        (self.len, self.is_cut) = (0, false);
    }

    /// Appends text that fits.
    fn append(&mut self, text: &str) {
        self.text[self.len..self.len + text.len()].copy_from_slice(text.as_bytes());
        self.len += text.len();
    }
}

/// The last index up to `end` that is a character boundary.
fn boundary(text: &str, end: usize) -> usize {
    (0..=end).rev().find(|&place| text.is_char_boundary(place)).unwrap_or(0)
}

impl<const N: usize> fmt::Write for Line<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.is_cut {
            return Ok(());
        }
        if text.len() <= N - self.len {
            self.append(text);
            return Ok(());
        }
        self.is_cut = true;
        // Leave room for the mark; the text so far may already be longer.
        let room = N - MARK.len();
        if self.len <= room {
            self.append(&text[..boundary(text, room - self.len)]);
        } else {
            self.len = boundary(self.as_str(), room);
        }
        self.append(MARK);
        Ok(())
    }
}

impl<const N: usize> Default for Line<N> {
    fn default() -> Line<N> {
        Line::new()
    }
}

impl<const N: usize> fmt::Debug for Line<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    fn line_of<const N: usize>(pieces: &[&str]) -> Line<N> {
        let mut line = Line::new();
        pieces.iter().for_each(|piece| line.write_str(piece).unwrap());
        line
    }

    #[test]
    fn text_that_fits_is_complete() {
        let line = line_of::<8>(&["abc", "", "defgh", ""]);
        assert_eq!((line.as_str(), line.is_cut()), ("abcdefgh", false));
    }

    #[test]
    fn longer_text_is_cut_and_marked() {
        assert_eq!(line_of::<8>(&["abcdefgh", "i", "j"]).as_str(), "abcde...");
        assert_eq!(line_of::<8>(&["abc", "defghi"]).as_str(), "abcde...");
        assert_eq!(line_of::<8>(&["abcdefghijkl"]).as_str(), "abcde...");
        assert_eq!(line_of::<3>(&["abcd"]).as_str(), "...");
        let mut line = line_of::<8>(&["abcdefghi"]);
        assert!(line.is_cut());
        line.clear();
        assert_eq!((line.as_str(), line.is_cut()), ("", false));
    }

    #[test]
    fn text_is_cut_between_characters() {
        // Characters of two bytes each; the mark begins at 5 at most.
        assert_eq!(line_of::<8>(&["äöüß", "x"]).as_str(), "äö...");
        assert_eq!(line_of::<8>(&["a", "äöüß"]).as_str(), "aäö...");
        // Characters of four bytes.
        assert_eq!(line_of::<9>(&["𝄞𝄞𝄞"]).as_str(), "𝄞...");
    }
}
