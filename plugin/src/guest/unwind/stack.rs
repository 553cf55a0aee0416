//! The stack that is unwound, and the record of the words that unwinding used.

use super::{MOST_FRAMES, Start};
use crate::x86::Mode;

/// Maximum number of pointers that are loaded from one stack: two for each frame.
const MOST_BASES: usize = 2 * MOST_FRAMES + 2;

/// A place on the stack: a base pointer and an offset in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    /// 0 is SP, 1 is BP; higher numbers are pointers that steps loaded, in order.
    base: u8,
    offset: i32,
}

impl Pointer {
    pub(super) const SP: Pointer = Pointer { base: 0, offset: 0 };
    pub(super) const BP: Pointer = Pointer { base: 1, offset: 0 };

    /// The place at a higher address.
    pub(super) fn plus(self, bytes: i32) -> Pointer {
        Pointer { base: self.base, offset: self.offset.wrapping_add(bytes) }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Loads a pointer, as a base for later steps.
    Load(Pointer),
    /// Compares a word that decided the next frame.
    Expect(Pointer, u64),
}

/// The address size and segment base of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    mode: Mode,
    segment: u64,
}

impl Shape {
    fn of(start: &Start) -> Shape {
        Shape { mode: start.mode, segment: start.ss_base }
    }

    fn word_size(self) -> usize {
        self.mode.bits() as usize / 8
    }

    /// An offset in the stack segment, wrapped to its size.
    fn wrap(self, offset: u64) -> u64 {
        offset & u64::MAX >> (64 - self.mode.bits())
    }

    fn load(self, offset: u64, read: &mut impl FnMut(u64, &mut [u8]) -> bool) -> Option<u64> {
        let mut bytes = [0; 8];
        let linear = self.segment.wrapping_add(self.wrap(offset));
        read(linear, &mut bytes[..self.word_size()]).then(|| u64::from_le_bytes(bytes))
    }
}

/// The words that one unwinding used.
///
/// Otherwise a chain depends only on the first instruction, the code and the tables. So a stack with the same words in the
/// same places has the same chain.
#[derive(Clone, Debug)]
pub struct Recipe {
    shape: Shape,
    steps: Box<[Step]>,
}

impl Recipe {
    /// Returns true if a stack has the words of this recipe. The caller compares the address of the code.
    pub fn matches(&self, start: &Start, read: &mut impl FnMut(u64, &mut [u8]) -> bool) -> bool {
        if self.shape != Shape::of(start) {
            return false;
        }
        let mut bases = [0; MOST_BASES];
        bases[..2].copy_from_slice(&[start.sp, start.bp]);
        let mut loaded = 2;
        for step in &self.steps {
            let (Step::Load(at) | Step::Expect(at, _)) = *step;
            let offset = bases[usize::from(at.base)].wrapping_add_signed(i64::from(at.offset));
            let Some(word) = self.shape.load(offset, read) else { return false };
            match step {
                Step::Load(_) => {
                    bases[loaded] = word;
                    loaded += 1;
                }
                Step::Expect(_, expected) if *expected != word => return false,
                Step::Expect(..) => {}
            }
        }
        true
    }

    /// The number of words that it compares or follows.
    pub fn words(&self) -> usize {
        self.steps.len()
    }

    /// The memory that it takes, in bytes.
    pub fn size(&self) -> usize {
        size_of::<Recipe>() + size_of_val(&*self.steps)
    }
}

/// A stack that is being unwound.
pub(super) struct Stack<'r, R> {
    read: &'r mut R,
    shape: Shape,
    bases: Vec<u64>,
    steps: Vec<Step>,
}

impl<'r, R: FnMut(u64, &mut [u8]) -> bool> Stack<'r, R> {
    pub(super) fn new(start: &Start, read: &'r mut R) -> Stack<'r, R> {
        let bases = vec![start.sp, start.bp];
        Stack { read, shape: Shape::of(start), bases, steps: Vec::new() }
    }

    /// Ends unwinding, and returns the record.
    pub(super) fn finish(self) -> Recipe {
        Recipe { shape: self.shape, steps: self.steps.into() }
    }

    /// The size of a word in bytes.
    pub(super) fn word_size(&self) -> usize {
        self.shape.word_size()
    }

    /// The offset of a place in the stack segment.
    pub(super) fn value(&self, at: Pointer) -> u64 {
        let base = self.bases[usize::from(at.base)];
        self.shape.wrap(base.wrapping_add_signed(i64::from(at.offset)))
    }

    /// Reads a word without recording it.
    pub(super) fn peek(&mut self, at: Pointer) -> Option<u64> {
        let offset = self.value(at);
        self.shape.load(offset, self.read)
    }

    /// Reads and records a word that decides the next frame.
    pub(super) fn take(&mut self, at: Pointer) -> Option<u64> {
        let word = self.peek(at)?;
        self.steps.push(Step::Expect(at, word));
        Some(word)
    }

    /// Follows a pointer on the stack, and records that.
    pub(super) fn follow(&mut self, at: Pointer) -> Option<Pointer> {
        if self.bases.len() == MOST_BASES {
            return None;
        }
        let word = self.peek(at)?;
        self.steps.push(Step::Load(at));
        self.bases.push(word);
        Some(Pointer { base: (self.bases.len() - 1) as u8, offset: 0 })
    }

    /// Fills bytes from a linear address.
    pub(super) fn read(&mut self, linear: u64, into: &mut [u8]) -> Option<()> {
        (self.read)(linear, into).then_some(())
    }
}
