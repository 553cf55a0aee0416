//! Entry points for fuzzing, in builds with `--cfg fuzzing` alone. `tests/fuzz` calls them.
//!
//! Each takes arbitrary bytes. It must not panic, and must not take long or use much memory. Private modules have their entry
//! point in a file `fuzzing.rs` of their own.

pub use crate::control::fuzzing::requests as control_requests;
pub use crate::devices::fuzzing::{recording, script, socket_frames};
pub use crate::guest::fuzzing::{kernel as guest_kernel, stack as unwind, tables as guest_tables};
pub use crate::options::fuzzing::{arguments as option_arguments, config};

/// Checks that a message for the user is one line of reasonable length, which leaves a terminal alone.
pub(crate) fn assert_message(message: &impl std::fmt::Display) {
    let text = message.to_string();
    assert!(!text.is_empty(), "a message has a text");
    assert!(!text.chars().any(char::is_control), "a message is one line: {text:?}");
}

/// Arbitrary bytes, taken piece by piece. After the last one, all are zero.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    /// Returns true if no bytes are left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// Takes a number of `N` bytes, little-endian.
    pub(crate) fn number<const N: usize>(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let taken = self.take(N);
        bytes[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(bytes)
    }

    /// Takes up to `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
