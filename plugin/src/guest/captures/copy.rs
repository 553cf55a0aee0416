//! Copies of the stacks of 64-bit kernels, to be unwound later.

use std::hash::{BuildHasher, RandomState};

use crate::guest::unwind::Start;
use crate::x86::PAGE;

/// Maximum number of bytes of a stack that are copied in one piece.
const PIECE: usize = 4096;
/// Size and alignment of a stack in 64-bit kernels, in bytes: Linux's `THREAD_SIZE`.
const KERNEL_STACK: u64 = 16 << 10;
/// Maximum number of bytes between the code and a word that counts as its address.
const CODE_REACH: u64 = 1 << 30;

/// A copy of a stack that is unwound later.
#[derive(Clone, Debug)]
pub struct StackCapture {
    pub(super) start: Start,
    /// The pieces, each with its address. The second is of the stack that was interrupted.
    pieces: Vec<(u64, Box<[u8]>)>,
}

/// A buffer for the stack of a 64-bit kernel.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Address and length of each piece. The second may be empty.
    pieces: [(u64, usize); 2],
    bytes: Box<[[u8; PIECE]; 2]>,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch { pieces: [(0, 0); 2], bytes: Box::new([[0; PIECE]; 2]) }
    }
}

impl Scratch {
    pub(super) fn fill(&mut self, sp: u64, read: &mut impl FnMut(u64, &mut [u8]) -> bool) {
        let length = read_piece(sp, &mut self.bytes[0], read);
        self.pieces = [(sp, length), (0, 0)];
        // The last word of an interrupt stack points to the stack that was interrupted.
        let is_whole = (sp + length as u64).is_multiple_of(KERNEL_STACK);
        let top = self.bytes[0][..length].last_chunk().map(|word| u64::from_le_bytes(*word));
        let Some(before) = top.filter(|&before| is_whole && before >> 63 != 0) else { return };
        if before % 8 == 0 && before.abs_diff(sp) >= KERNEL_STACK {
            self.pieces[1] = (before, read_piece(before, &mut self.bytes[1], read));
        }
    }

    fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let pieces = self.pieces.iter().zip(&*self.bytes);
        pieces.map(|(&(at, length), bytes)| (at, &bytes[..length]))
    }

    /// Hashes what unwinding can follow: addresses of code and of the stack, and their positions.
    pub(super) fn key(&self, site: u32, start: &Start, hasher: &RandomState) -> u64 {
        let bp = Some(start.bp.wrapping_sub(start.sp)).filter(|&bp| bp < KERNEL_STACK);
        let mut key = hasher.hash_one((site, start.ip, bp));
        for (at, bytes) in self.pieces() {
            for (index, word) in (1..).zip(bytes.as_chunks().0) {
                let word = u64::from_le_bytes(*word);
                let on_stack = word.wrapping_sub(at);
                let what = if word.abs_diff(start.ip) < CODE_REACH {
                    word
                } else if on_stack < KERNEL_STACK {
                    on_stack
                } else {
                    continue;
                };
                key = (key ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ index;
            }
        }
        key
    }

    /// Copies the pieces.
    pub(super) fn capture(&self, start: &Start) -> StackCapture {
        let pieces = self.pieces().map(|(at, bytes)| (at, bytes.into())).collect();
        StackCapture { start: *start, pieces }
    }
}

impl StackCapture {
    /// Fills `into` from the copy. Returns false if not all of it was copied.
    pub(super) fn read(&self, linear: u64, into: &mut [u8]) -> bool {
        let piece = |(at, bytes): &(u64, Box<[u8]>)| {
            let start = usize::try_from(linear.checked_sub(*at)?).ok()?;
            let bytes = bytes.get(start..start.checked_add(into.len())?)?;
            into.copy_from_slice(bytes);
            Some(())
        };
        self.pieces.iter().find_map(piece).is_some()
    }

    pub(super) fn size(&self) -> usize {
        self.pieces.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

/// Reads a stack from its pointer on, and returns the number of bytes.
///
/// Ends at the end of the stack, at memory that cannot be read, or when `into` is full.
fn read_piece(sp: u64, into: &mut [u8], read: &mut impl FnMut(u64, &mut [u8]) -> bool) -> usize {
    let to_end = KERNEL_STACK - sp % KERNEL_STACK;
    let size = into.len().min(to_end as usize);
    let mut filled = 0;
    while filled < size {
        let at = sp + filled as u64;
        let now = (size - filled).min((PAGE - at % PAGE) as usize);
        if !read(at, &mut into[filled..filled + now]) {
            break;
        }
        filled += now;
    }
    filled
}
