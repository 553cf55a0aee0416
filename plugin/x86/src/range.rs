//! Ranges of ports.

use std::fmt;
use std::str::FromStr;

use super::Port;

/// A range of ports, from the first to the last, both included.
///
/// ```
/// use pvio_x86::{Port, PortRange};
///
/// let uart = PortRange::parse("0x3f8", 8).unwrap();
/// assert_eq!(uart.last(), Port(0x3ff));
/// assert!(uart.contains(Port(0x3fd)));
/// assert_eq!(uart.to_string(), "0x03f8-0x03ff");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: Port,
    last: Port,
}

/// The reason why a text is not a range of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortRangeError {
    /// The text is not `PORT` or `PORT-PORT`.
    #[error("{0:?} is neither a port nor a range of ports; write 0x300 or 0x300-0x307")]
    Syntax(String),
    /// The range ends after port 0xffff.
    #[error("{0} exceeds 0xffff, the last port")]
    TooFar(String),
    /// The range ends before it begins.
    #[error("the range {0} ends before it begins")]
    Backwards(String),
}

impl PortRange {
    /// Makes a range of `count` ports from `first` on. A count of 0 stands for 1.
    ///
    /// # Errors
    ///
    /// [`PortRangeError::TooFar`] if it ends after port 0xffff.
    pub fn new(first: Port, count: u16) -> Result<PortRange, PortRangeError> {
        let last = first.0.checked_add(count.saturating_sub(1)).map(Port);
        let last =
            last.ok_or_else(|| PortRangeError::TooFar(format!("{first} with {count} ports")))?;
        Ok(PortRange { first, last })
    }

    /// Parses `PORT` or `PORT-PORT`. The former stands for `count` ports.
    ///
    /// # Errors
    ///
    /// The text has another form, ends after port 0xffff, or ends before it begins.
    pub fn parse(text: &str, count: u16) -> Result<PortRange, PortRangeError> {
        let number = |part| number(part).ok_or_else(|| PortRangeError::Syntax(text.to_owned()));
        let port = |number| {
            let port = u16::try_from(number).map(Port);
            port.map_err(|_| PortRangeError::TooFar(text.to_owned()))
        };
        match text.split_once('-') {
            None => PortRange::new(port(number(text)?)?, count),
            Some((first, last)) => {
                // Other messages do not escape the text, so both parts must be numbers first.
                let (first, last) = (number(first)?, number(last)?);
                let (first, last) = (port(first)?, port(last)?);
                match first <= last {
                    true => Ok(PortRange { first, last }),
                    false => Err(PortRangeError::Backwards(text.to_owned())),
                }
            }
        }
    }

    /// Returns the first port.
    pub fn first(self) -> Port {
        self.first
    }

    /// Returns the last port.
    pub fn last(self) -> Port {
        self.last
    }

    /// Returns the number of ports, 1 to 65,536.
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(self) -> u32 {
        u32::from(self.last.0 - self.first.0) + 1
    }

    /// Returns true if the ranges have a port in common.
    pub fn overlaps(self, other: PortRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Returns true if the range has this port.
    pub fn contains(self, port: Port) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Reads a decimal or hexadecimal number.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => u64::from_str(text).ok(),
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.len() {
            1 => write!(f, "{}", self.first),
            _ => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(u16, u16), String> {
        PortRange::parse(text, 8)
            .map(|range| (range.first().0, range.last().0))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn ports_may_be_decimal_or_hexadecimal() {
        assert_eq!(parsed("0x3f8"), Ok((0x3f8, 0x3ff)));
        assert_eq!(parsed("0x3f8-0x3f8"), Ok((0x3f8, 0x3f8)));
        assert_eq!(parsed("96-100"), Ok((96, 100)));
        assert_eq!(parsed("0-0xffff"), Ok((0, 0xffff)));
        assert_eq!(PortRange::parse("0-0xffff", 1).unwrap().len(), 65_536);
    }

    #[test]
    fn each_error_names_what_is_wrong() {
        for (text, expected) in [
            ("", "is neither a port"),
            ("com1", "is neither a port"),
            ("0x3f8-", "is neither a port"),
            ("-5", "is neither a port"),
            ("0x10000-\u{15}", "-\\u{15}\" is neither a port"),
            ("0xfff9", "exceeds 0xffff"),
            ("0x10000", "exceeds 0xffff"),
            ("0xfff0-0x10000", "exceeds 0xffff"),
            ("0x3ff-0x3f8", "ends before"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
