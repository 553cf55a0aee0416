//! The stacks that each place in the code was seen with.
//!
//! An access costs a comparison with the stacks that its site had before: of each, only the words that
//! unwinding took. A stack that is new is unwound once. In a 64-bit kernel that is not known yet, or whose tables
//! lack a place, a copy of the stack waits until it is.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::kernel::Kernel;
use super::names::Name;
use super::unwind::{Chain, End, Frame, Recipe, Start, Unwound, unwind};
use crate::x86::PAGE;

/// The most stacks that a table holds.
pub const MOST_STACKS: usize = 1 << 14;
/// The most bytes that a table's stacks take, all together.
pub const MOST_BYTES: usize = 8 << 20;
/// The most stacks of one site. A comparison with all of them must stay cheap.
pub const MOST_OF_SITE: usize = 1024;
/// The most bytes that are copied of a stack.
const PIECE: usize = 4096;
/// Bytes of a stack of a 64-bit kernel (Linux's `THREAD_SIZE`), to which it is aligned.
const KERNEL_STACK: u64 = 16 << 10;
/// How far from the code words may point that tell one waiting stack from another.
const CODE_REACH: u64 = 1 << 30;

/// A stack in a table. It belongs to one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(pub u32);

/// What is known of the kernel at an access.
#[derive(Clone, Copy, Debug)]
pub struct KnownKernel<'k> {
    /// The kernel, if it is known.
    pub kernel: Option<&'k Kernel>,
    /// Whether more may be known later: then a stack that needs it waits.
    pub may_change: bool,
}

/// The stack of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The stack; `None` if it is new and there is no room.
    pub stack: Option<StackId>,
    /// It was not seen before.
    pub is_new: bool,
    /// It waits for a kernel that is known, or known better.
    pub waits: bool,
}

/// What is kept of a caller, to name it later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller {
    /// Where it is.
    pub frame: Frame,
    /// Bytes at its address.
    pub code: [u8; 4],
    /// Its name, if it is in a module: that may be gone later, as its initialization always is.
    pub in_module: Option<Box<str>>,
}

/// The stacks of one site, from the one that was seen last on.
#[derive(Debug, Default)]
struct SiteStacks {
    stacks: Vec<StackId>,
    /// The one of which nothing can be known.
    unknown: Option<StackId>,
}

/// A copy of a stack, to be unwound later.
#[derive(Clone, Debug)]
pub struct StackCapture {
    start: Start,
    /// Each with its address. The second is that of the stack that an interrupt left.
    pieces: Vec<(u64, Box<[u8]>)>,
}

/// A stack, and the site that it belongs to.
#[derive(Debug)]
struct Entry {
    site: u32,
    stack: Stack,
}

#[derive(Debug)]
enum Stack {
    Unwound { recipe: Recipe, callers: Box<[Caller]>, end: End },
    Waiting(StackCapture),
}

impl Stack {
    fn unwound(
        Unwound { chain, recipe, .. }: Unwound,
        kernel: Option<&Kernel>,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Stack {
        let callers = chain.frames.into_iter().map(|frame| {
            let mut code = [0; 4];
            // Bytes that cannot be read are zeros, which no code has.
            read(frame.address(), &mut code);
            let name = kernel.and_then(|kernel| kernel.name(frame.address()));
            let name = name.filter(|name| name.module.is_some());
            let in_module =
                name.map(|name| Name { offset: name.offset + frame.after(), ..name }.to_string());
            Caller { frame, code, in_module: in_module.map(Into::into) }
        });
        Stack::Unwound { callers: callers.collect(), recipe, end: chain.end }
    }

    /// Bytes that it takes.
    fn size(&self) -> usize {
        let parts = match self {
            Stack::Unwound { recipe, callers, .. } => {
                let names = callers.iter().filter_map(|caller| caller.in_module.as_ref());
                let names: usize = names.map(|name| name.len()).sum();
                size_of_val(&**callers) + names + recipe.size()
            }
            Stack::Waiting(capture) => capture.size(),
        };
        size_of::<Entry>() + parts
    }
}

/// Stacks of one processor. Its memory is bounded by [`MOST_STACKS`] and [`MOST_BYTES`].
#[derive(Debug)]
pub struct CaptureTable {
    /// The most frames of a chain.
    depth: usize,
    stacks: Vec<Entry>,
    /// By the sites' numbers.
    sites: Vec<SiteStacks>,
    /// Waiting stacks, by their keys.
    waiting: HashMap<u64, StackId>,
    hasher: RandomState,
    bytes: usize,
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
    fn key(&self, site: u32, start: &Start, hasher: &RandomState) -> u64 {
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
        self.pieces.iter().map(|(_, bytes)| bytes.len()).sum()
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
    /// A table without stacks, of chains with at most so many frames.
    pub fn new(depth: usize) -> CaptureTable {
        CaptureTable {
            depth,
            stacks: Vec::new(),
            sites: Vec::new(),
            waiting: HashMap::new(),
            hasher: RandomState::new(),
            bytes: 0,
            scratch: Scratch::default(),
        }
    }

    /// The stack that a site is at now. `read` fills bytes from a linear address.
    pub fn find(
        &mut self,
        site: u32,
        KnownKernel { kernel, may_change }: KnownKernel<'_>,
        start: &Start,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Found {
        let stacks = &self.stacks;
        let matches = |&id: &StackId| match &stacks[id.0 as usize].stack {
            Stack::Unwound { recipe, .. } => recipe.matches(start, read),
            Stack::Waiting(_) => false,
        };
        let known = &mut site_of(&mut self.sites, site).stacks;
        let room = known.len() < MOST_OF_SITE;
        if let Some(index) = known.iter().position(matches) {
            known[..=index].rotate_right(1);
            return Found { stack: Some(known[0]), is_new: false, waits: false };
        }
        let unwound = match kernel {
            None if start.is_64_bit_kernel() && may_change => None,
            kernel => {
                let unwound = unwind(kernel, start, self.depth, read);
                Some(unwound).filter(|unwound| !(unwound.lacks_tables && may_change))
            }
        };
        let Some(unwound) = unwound else { return self.wait(site, start, read) };
        let id = room.then(|| self.insert(site, Stack::unwound(unwound, kernel, read))).flatten();
        if let Some(id) = id {
            site_of(&mut self.sites, site).stacks.insert(0, id);
        }
        Found { stack: id, is_new: true, waits: false }
    }

    /// The stack of a site of which nothing can be known.
    pub fn find_unknown(&mut self, site: u32) -> Found {
        let known = site_of(&mut self.sites, site).unknown;
        let stack = known.or_else(|| {
            let start = Start::flat(0, 0, 0);
            let unwound = unwind(None, &start, 0, &mut |_, _| false);
            debug_assert_eq!(unwound.chain, Chain { frames: Vec::new(), end: End::Unknown });
            self.insert(site, Stack::unwound(unwound, None, &mut |_, _| false))
        });
        site_of(&mut self.sites, site).unknown = stack;
        Found { stack, is_new: known.is_none(), waits: false }
    }

    /// Keeps a copy of a stack, unless one is there already.
    fn wait(
        &mut self,
        site: u32,
        start: &Start,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Found {
        self.scratch.fill(start.sp, read);
        let key = self.scratch.key(site, start, &self.hasher);
        if let Some(&id) = self.waiting.get(&key) {
            return Found { stack: Some(id), is_new: false, waits: true };
        }
        let capture = self.scratch.capture(start);
        let stack = self.insert(site, Stack::Waiting(capture));
        if let Some(id) = stack {
            self.waiting.insert(key, id);
        }
        Found { stack, is_new: true, waits: true }
    }

    fn insert(&mut self, site: u32, stack: Stack) -> Option<StackId> {
        let size = stack.size();
        if self.stacks.len() == MOST_STACKS || self.bytes + size > MOST_BYTES {
            return None;
        }
        self.bytes += size;
        self.stacks.push(Entry { site, stack });
        Some(StackId((self.stacks.len() - 1) as u32))
    }

    /// Unwinds all stacks that wait, as far as the kernel is known. If more `may_change`, those that need it wait on.
    pub fn resolve(
        &mut self,
        KnownKernel { kernel, may_change }: KnownKernel<'_>,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) {
        let Some(kernel) = kernel else { return };
        let (stacks, bytes, depth) = (&mut self.stacks, &mut self.bytes, self.depth);
        self.waiting.retain(|_, id| {
            let Entry { stack, .. } = &mut stacks[id.0 as usize];
            let Stack::Waiting(capture) = stack else { return false };
            // The stack as it was; only the tables are read as they are.
            let mut read_both = |linear: u64, into: &mut [u8]| {
                capture.read(linear, into) || kernel.has_tables_at(linear) && read(linear, into)
            };
            let unwound = unwind(Some(kernel), &capture.start, depth, &mut read_both);
            if unwound.lacks_tables && may_change {
                return true;
            }
            let unwound = Stack::unwound(unwound, Some(kernel), read);
            *bytes = *bytes - stack.size() + unwound.size();
            *stack = unwound;
            false
        });
    }

    /// Stacks that were unwound are unwound again when they are seen again, because the kernel is known now.
    pub fn begin_anew(&mut self) {
        self.sites.clear();
    }

    /// The kernel for which stacks wait is gone: they will not be unwound.
    pub fn stop_waiting(&mut self) {
        self.waiting.clear();
    }

    /// All stacks.
    pub fn ids(&self) -> impl Iterator<Item = StackId> + use<> {
        (0..self.stacks.len() as u32).map(StackId)
    }

    /// The site that a stack belongs to.
    pub fn site(&self, id: StackId) -> u32 {
        self.stacks[id.0 as usize].site
    }

    /// The callers of a stack, and why there are no more; `None` if it was not unwound.
    pub fn chain(&self, id: StackId) -> Option<(&[Caller], End)> {
        match &self.stacks[id.0 as usize].stack {
            Stack::Unwound { callers, end, .. } => Some((callers, *end)),
            Stack::Waiting(_) => None,
        }
    }

    /// All callers in chains that are known, each with the site.
    pub fn callers(&self) -> impl Iterator<Item = (u32, &Caller)> {
        self.stacks.iter().flat_map(|Entry { site, stack }| {
            let callers: &[Caller] = match stack {
                Stack::Unwound { callers, .. } => callers,
                Stack::Waiting(_) => &[],
            };
            callers.iter().map(|caller| (*site, caller))
        })
    }

    /// How many stacks wait for the kernel to be known.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

fn site_of(sites: &mut Vec<SiteStacks>, site: u32) -> &mut SiteStacks {
    let index = site as usize;
    if index >= sites.len() {
        sites.resize_with(index + 1, SiteStacks::default);
    }
    &mut sites[index]
}
