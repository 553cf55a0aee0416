//! Ranges of ports.

use std::fmt;
use std::str::FromStr;

use super::Port;

/// Ports from a first to a last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: Port,
    last: Port,
}

/// A text that is no range of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortRangeError {
    /// It is not `PORT` or `PORT-PORT`.
    #[error("{0:?} is not a port, nor a range of ports; write 0x300 or 0x300-0x307")]
    Syntax(String),
    /// It goes beyond the I/O space.
    #[error("{0} goes beyond 0xffff, the last port")]
    TooFar(String),
    /// Its end is before its beginning.
    #[error("{0} ends before it begins")]
    Backwards(String),
}

impl PortRange {
    /// `count` ports from `first` on.
    pub fn new(first: Port, count: u16) -> Result<PortRange, PortRangeError> {
        let last = first.0.checked_add(count.saturating_sub(1)).map(Port);
        let last =
            last.ok_or_else(|| PortRangeError::TooFar(format!("{first} with {count} ports")))?;
        Ok(PortRange { first, last })
    }

    /// Reads `PORT` or `PORT-PORT`; the former stands for `count` ports.
    pub fn parse(text: &str, count: u16) -> Result<PortRange, PortRangeError> {
        match text.split_once('-') {
            None => PortRange::new(port(text, text)?, count),
            Some((first, last)) => {
                let (first, last) = (port(first, text)?, port(last, text)?);
                match first <= last {
                    true => Ok(PortRange { first, last }),
                    false => Err(PortRangeError::Backwards(text.to_owned())),
                }
            }
        }
    }

    /// The first port.
    pub fn first(self) -> Port {
        self.first
    }

    /// The last port.
    pub fn last(self) -> Port {
        self.last
    }

    /// How many ports: 1 to 65,536.
    #[expect(clippy::len_without_is_empty, reason = "no range is empty")]
    pub fn len(self) -> u32 {
        u32::from(self.last.0 - self.first.0) + 1
    }

    /// Whether some port is in both.
    pub fn overlaps(self, other: PortRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether a port is in the range.
    pub fn contains(self, port: Port) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

fn port(text: &str, whole: &str) -> Result<Port, PortRangeError> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => u64::from_str(text),
    };
    let number = number.map_err(|_| PortRangeError::Syntax(whole.to_owned()))?;
    u16::try_from(number).map(Port).map_err(|_| PortRangeError::TooFar(whole.to_owned()))
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
    fn ranges_are_read_as_people_write_them() {
        assert_eq!(parsed("0x3f8"), Ok((0x3f8, 0x3ff)));
        assert_eq!(parsed("0x3f8-0x3f8"), Ok((0x3f8, 0x3f8)));
        assert_eq!(parsed("96-100"), Ok((96, 100)));
        assert_eq!(parsed("0-0xffff"), Ok((0, 0xffff)));
        assert_eq!(PortRange::parse("0-0xffff", 1).unwrap().len(), 65_536);
    }

    #[test]
    fn what_is_no_range_is_told_apart() {
        for (text, expected) in [
            ("", "not a port"),
            ("com1", "not a port"),
            ("0x3f8-", "not a port"),
            ("-5", "not a port"),
            ("0xfff9", "beyond 0xffff"),
            ("0x10000", "beyond 0xffff"),
            ("0xfff0-0x10000", "beyond 0xffff"),
            ("0x3ff-0x3f8", "ends before"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
