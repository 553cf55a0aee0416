//! Text for the log that is formatted without an allocator.

use core::fmt;

use super::{Level, log};
use crate::error::CallError;

/// A line in the making, of at most `N` bytes.
///
/// What does not fit is left out, and a line that lacks something ends with `...`. A character is there
/// or not there, never a part of it.
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

/// The end of a line that lacks something.
const MARK: &str = "...";

impl<const N: usize> Line<N> {
    /// An empty line. There must be room for the mark, or it does not compile.
    pub const fn new() -> Line<N> {
        const { assert!(N >= MARK.len(), "a line has room for the mark of a cut at least") };
        Line { text: [0; N], len: 0, is_cut: false }
    }

    /// A line of what `format_args!` makes.
    ///
    /// ```
    /// use pvio_guest::control::Line;
    ///
    /// let line: Line = Line::of(format_args!("{} of {}", 1, 2));
    /// assert_eq!(line.as_str(), "1 of 2");
    /// ```
    pub fn of(arguments: fmt::Arguments<'_>) -> Line<N> {
        let mut line = Line::new();
        // An error can only be that of a value's own `Display`; what came before it is worth a line.
        let _ = fmt::Write::write_fmt(&mut line, arguments);
        line
    }

    /// What is in it.
    pub fn as_str(&self) -> &str {
        // It is made of whole characters.
        core::str::from_utf8(&self.text[..self.len]).unwrap_or("")
    }

    /// Whether something was left out.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Logs it.
    pub fn log(&self, level: Level) -> Result<(), CallError> {
        log(level, self.as_str())
    }

    /// Empties it.
    pub fn clear(&mut self) {
        (self.len, self.is_cut) = (0, false);
    }

    /// Appends a text that fits.
    fn append(&mut self, text: &str) {
        self.text[self.len..self.len + text.len()].copy_from_slice(text.as_bytes());
        self.len += text.len();
    }
}

/// The last place up to `end` that is not within a character.
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
        // As much as leaves room for the mark, which may be less than is there already.
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
    fn what_fits_is_there() {
        let line = line_of::<8>(&["abc", "", "defgh", ""]);
        assert_eq!((line.as_str(), line.is_cut()), ("abcdefgh", false));
    }

    #[test]
    fn what_does_not_fit_is_marked() {
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
    fn characters_stay_whole() {
        // Of two bytes each; the mark begins at 5 at most.
        assert_eq!(line_of::<8>(&["äöüß", "x"]).as_str(), "äö...");
        assert_eq!(line_of::<8>(&["a", "äöüß"]).as_str(), "aäö...");
        // Of four.
        assert_eq!(line_of::<9>(&["𝄞𝄞𝄞"]).as_str(), "𝄞...");
    }
}
