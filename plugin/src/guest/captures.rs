//! The stacks that one place in the code was seen with.
//!
//! An access costs a comparison with the stacks that its site had before: of each, only the words that
//! unwinding took. A stack that is new is unwound once. In a 64-bit kernel that is not known yet, a copy of
//! the stack waits until it is.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::kernel::Kernel;
use super::unwind::{Chain, MOST_FRAMES, Start, Unwound, unwind};
use crate::x86::PAGE;

/// The most stacks that a table holds.
pub const MOST_STACKS: usize = 1 << 14;
/// The most bytes that a table's stacks take, all together.
pub const MOST_BYTES: usize = 8 << 20;
/// The most stacks of one site. A comparison with all of them must stay cheap.
pub const MOST_OF_SITE: usize = 256;
/// The most bytes that are copied of a stack.
const PIECE: usize = 4096;
/// Bytes of a stack of a 64-bit kernel (Linux's `THREAD_SIZE`), to which it is aligned.
const KERNEL_STACK: u64 = 16 << 10;
/// How far from the code words may point that tell one waiting stack from another.
const CODE_REACH: u64 = 1 << 30;

/// A stack in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(u32);

/// The stacks of one site, roughly from the most frequent on.
///
/// A chain that ends as unknown stays so. Use an empty one when the kernel was found again, with more modules.
#[derive(Clone, Debug, Default)]
pub struct SiteStacks(Vec<StackId>);

/// A copy of a stack, to be unwound later.
#[derive(Clone, Debug)]
pub struct StackCapture {
    start: Start,
    /// Each with its address. The second is that of the stack that an interrupt left.
    pieces: Vec<(u64, Box<[u8]>)>,
}

/// Bytes that an unwound stack takes.
fn size_of_unwound(unwound: &Unwound) -> usize {
    let frames = size_of_val(&*unwound.chain.frames);
    size_of::<Entry>() + frames + unwound.recipe.size()
}

#[derive(Debug)]
enum Entry {
    Unwound(Unwound),
    Waiting(StackCapture),
}

/// Stacks of one processor. Its memory is bounded by [`MOST_STACKS`] and [`MOST_BYTES`].
#[derive(Debug, Default)]
pub struct CaptureTable {
    stacks: Vec<Entry>,
    /// Waiting stacks, by their keys.
    waiting: HashMap<u64, StackId>,
    hasher: RandomState,
    bytes: usize,
    dropped: u64,
    scratch: Scratch,
}

/// What is copied of the stack of a 64-bit kernel before it is kept.
#[derive(Debug)]
struct Scratch {
    /// Where each piece begins, and how long it is. The second may be empty.
    pieces: [(u64, usize); 2],
    bytes: Box<[[u8; PIECE]; 2]>,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch { pieces: [(0, 0); 2], bytes: Box::new([[0; PIECE]; 2]) }
    }
}

impl Scratch {
    fn fill(&mut self, sp: u64, read: &mut impl FnMut(u64, &mut [u8]) -> bool) {
        let length = read_piece(sp, &mut self.bytes[0], read);
        self.pieces = [(sp, length), (0, 0)];
        // The stack of interrupts has the pointer to the one before in its last word.
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

    /// Tells stacks apart by what unwinding can follow: addresses of code and of the stack, and where they
    /// are.
    fn key(&self, start: &Start, hasher: &RandomState) -> u64 {
        let bp = Some(start.bp.wrapping_sub(start.sp)).filter(|&bp| bp < KERNEL_STACK);
        let mut key = hasher.hash_one((start.ip, bp));
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

    /// A copy to be kept.
    fn capture(&self, start: &Start) -> StackCapture {
        let pieces = self.pieces().map(|(at, bytes)| (at, bytes.into())).collect();
        StackCapture { start: *start, pieces }
    }
}

impl StackCapture {
    /// Fills `into` from the copy. Returns false if that does not have all of it.
    fn read(&self, linear: u64, into: &mut [u8]) -> bool {
        let piece = |(at, bytes): &(u64, Box<[u8]>)| {
            let start = usize::try_from(linear.checked_sub(*at)?).ok()?;
            let bytes = bytes.get(start..start.checked_add(into.len())?)?;
            into.copy_from_slice(bytes);
            Some(())
        };
        self.pieces.iter().find_map(piece).is_some()
    }

    fn size(&self) -> usize {
        let pieces = self.pieces.iter().map(|(_, bytes)| bytes.len());
        size_of::<Entry>() + pieces.sum::<usize>()
    }
}

/// Reads from a stack pointer to the end of the stack, or of what can be read, or of `into`. Returns how much
/// that is.
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

impl CaptureTable {
    /// A table without stacks.
    pub fn new() -> CaptureTable {
        CaptureTable::default()
    }

    /// The stack that a site is at now. `None` if it is new and there is no room: that is counted.
    ///
    /// `kernel` is the one that runs, if it is known. `read` fills bytes from a linear address.
    pub fn find(
        &mut self,
        site: &mut SiteStacks,
        kernel: Option<&Kernel>,
        start: &Start,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Option<StackId> {
        let matches = |&id: &StackId| match &self.stacks[id.0 as usize] {
            Entry::Unwound(unwound) => unwound.recipe.matches(start, read),
            Entry::Waiting(_) => false,
        };
        if let Some(index) = site.0.iter().position(matches) {
            let id = site.0[index];
            // Each match moves one up, so that the frequent ones are found first.
            site.0.swap(index, index.saturating_sub(1));
            return Some(id);
        }
        let id = match kernel {
            None if start.is_64_bit_kernel() => self.wait(start, read),
            _ if site.0.len() == MOST_OF_SITE => None,
            _ => {
                let unwound = unwind(kernel, start, MOST_FRAMES, read);
                let size = size_of_unwound(&unwound);
                let id = self.insert(Entry::Unwound(unwound), size);
                site.0.extend(id);
                id
            }
        };
        self.dropped += u64::from(id.is_none());
        id
    }

    /// Keeps a copy of a stack, unless one is there already.
    fn wait(
        &mut self,
        start: &Start,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Option<StackId> {
        self.scratch.fill(start.sp, read);
        let key = self.scratch.key(start, &self.hasher);
        if let Some(&id) = self.waiting.get(&key) {
            return Some(id);
        }
        let capture = self.scratch.capture(start);
        let size = capture.size();
        let id = self.insert(Entry::Waiting(capture), size)?;
        self.waiting.insert(key, id);
        Some(id)
    }

    fn insert(&mut self, entry: Entry, size: usize) -> Option<StackId> {
        if self.stacks.len() == MOST_STACKS || self.bytes + size > MOST_BYTES {
            return None;
        }
        self.bytes += size;
        self.stacks.push(entry);
        Some(StackId((self.stacks.len() - 1) as u32))
    }

    /// Unwinds all stacks that wait, now that the kernel is known.
    pub fn resolve(&mut self, kernel: &Kernel, read: &mut impl FnMut(u64, &mut [u8]) -> bool) {
        for entry in &mut self.stacks {
            let Entry::Waiting(capture) = entry else { continue };
            // The stack as it was; only the tables are read as they are.
            let mut read = |linear: u64, into: &mut [u8]| {
                capture.read(linear, into) || kernel.has_tables_at(linear) && read(linear, into)
            };
            let unwound = unwind(Some(kernel), &capture.start, MOST_FRAMES, &mut read);
            self.bytes = self.bytes - capture.size() + size_of_unwound(&unwound);
            *entry = Entry::Unwound(unwound);
        }
        self.waiting.clear();
    }

    /// The callers of a stack; `None` while it waits.
    pub fn chain(&self, id: StackId) -> Option<&Chain> {
        match &self.stacks[id.0 as usize] {
            Entry::Unwound(unwound) => Some(&unwound.chain),
            Entry::Waiting(_) => None,
        }
    }

    /// How many stacks wait for the kernel to be known.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many accesses had a stack for which there was no room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}
