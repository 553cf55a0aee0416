//! An access, as a recording and a driver make it.

use std::fmt;

use crate::x86::Direction;

/// An access without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The first port.
    pub port: u16,
    /// Bytes, 1 to 4.
    pub size: u8,
    pub direction: Direction,
}

impl Key {
    /// Clears the bytes above the access.
    pub fn low_bytes(self, value: u32) -> u32 {
        value & u32::MAX >> (32 - 8 * u32::from(self.size))
    }
}

/// As `pvio trace` prints it, without the value.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:#06x} {}", self.direction, self.port, self.size)
    }
}

/// An access with the value that it read or wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub key: Key,
    pub value: u32,
}

/// As `pvio trace` prints it.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = 2 + 2 * usize::from(self.key.size);
        write!(f, "{} {:#0digits$x}", self.key, self.value)
    }
}
