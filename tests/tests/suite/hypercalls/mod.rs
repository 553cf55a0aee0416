//! Hypercalls and the mailbox, from every ring and mode.

mod hostile;
mod limits;
mod mailbox;
mod mailbox_saved;
mod memory;
mod random;
mod rings;

/// The size of the stream's input, as in `tests/guests/calls/lib/strings.h`.
const STREAM_SIZE: u32 = 8 << 20;

/// What the stream gives to the guests, and gets from them.
fn stream_sequence(size: u32) -> Vec<u8> {
    (0..size).map(|place| (place.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect()
}
