//! Recognizes stacks that a site had before, so that each is unwound once.
//!
//! An access costs a comparison with the earlier stacks of its site: of each, only the words that unwinding used. A new
//! stack is unwound. While a 64-bit kernel is not known, or its tables lack an address, a copy of the stack waits.

mod copy;

pub use copy::StackCapture;

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::Arc;

use super::kernel::Kernel;
use super::modules::LoadedCode;
use super::names::Name;
use super::unwind::{Chain, End, Frame, Recipe, Start, Unwound, unwind};
use copy::Scratch;

/// Maximum number of stacks that a table holds.
pub const MOST_STACKS: usize = 1 << 14;
/// Maximum size of all stacks in a table, in bytes.
pub const MOST_BYTES: usize = 8 << 20;
/// Maximum number of stacks of one site. A comparison with all of them must stay cheap.
pub const MOST_OF_SITE: usize = 1024;
/// The number of a stack in its table. A stack belongs to one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(pub u32);

/// The kernel, as far as it is known at an access.
#[derive(Clone, Copy, Debug)]
pub struct KnownKernel<'k> {
    /// The kernel, if it is known.
    pub kernel: Option<&'k Kernel>,
    /// True if more may become known later, so that stacks wait for it.
    pub may_change: bool,
}

/// The stack of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The stack; `None` if it is new and there is no room.
    pub stack: Option<StackId>,
    /// True if it was not seen before.
    pub is_new: bool,
    /// True if it waits until the kernel, or more of it, is known.
    pub waits: bool,
}

/// A caller, and the data that will name it later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller {
    /// Its address.
    pub frame: Frame,
    /// Bytes at its address.
    pub code: [u8; 4],
    /// Its name, if it is in a module, which may be unloaded before the dump.
    pub in_module: Option<Box<str>>,
}

/// The code before an address in a module.
type ModuleCode = [u8; 16];

/// The stacks of one site, most recent first.
#[derive(Debug, Default)]
struct SiteStacks {
    stacks: Vec<StackId>,
    /// The stack of accesses whose registers or mode are unknown.
    unknown: Option<StackId>,
}

/// A stack, and the site that it belongs to.
#[derive(Debug)]
struct Entry {
    site: u32,
    stack: Stack,
}

#[derive(Debug)]
enum Stack {
    Unwound {
        recipe: Recipe,
        /// The modules whose names and tables unwound it. If one of them is unloaded, this entry no longer matches.
        modules: Box<[Arc<LoadedCode>]>,
        /// Code of these modules by address. If another build of a module is loaded instead, this entry no longer matches.
        code: Box<[(u64, ModuleCode)]>,
        callers: Box<[Caller]>,
        end: End,
    },
    Waiting(StackCapture),
}

impl Stack {
    fn unwound(
        Unwound { chain, recipe, .. }: Unwound,
        start: &Start,
        kernel: Option<&Kernel>,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Stack {
        let mut modules: Vec<Arc<LoadedCode>> = Vec::new();
        let mut code = Vec::new();
        let frames = chain.frames.iter().map(|frame| frame.address());
        for address in frames.chain([start.linear()]) {
            let module = kernel.and_then(|kernel| kernel.module_at(address));
            let Some(module) = module else { continue };
            let mut bytes = ModuleCode::default();
            let at = address.wrapping_sub(bytes.len() as u64 - 1);
            if read(at, &mut bytes) {
                code.push((at, bytes));
            }
            if modules.iter().all(|it| !Arc::ptr_eq(it, module)) {
                modules.push(Arc::clone(module));
            }
        }
        let callers = chain.frames.into_iter().map(|frame| {
            let mut code = [0; 4];
            // Bytes that cannot be read stay zeros, which no code has.
            read(frame.address(), &mut code);
            let name = kernel.and_then(|kernel| kernel.name_if_loaded(frame.address(), read));
            let name = name.filter(|name| name.module.is_some());
            let in_module =
                name.map(|name| Name { offset: name.offset + frame.after(), ..name }.to_string());
            Caller { frame, code, in_module: in_module.map(Into::into) }
        });
        let callers = callers.collect();
        let (modules, code) = (modules.into(), code.into());
        Stack::Unwound { recipe, modules, code, callers, end: chain.end }
    }

    /// Returns true if the stack of an access is this one.
    fn is_at(&self, start: &Start, read: &mut impl FnMut(u64, &mut [u8]) -> bool) -> bool {
        let Stack::Unwound { recipe, modules, code, .. } = self else { return false };
        recipe.matches(start, read)
            && modules.iter().all(|module| module.is_loaded(read))
            && code.iter().all(|(at, bytes)| {
                let mut now = ModuleCode::default();
                read(*at, &mut now) && now == *bytes
            })
    }

    /// Returns the memory that it takes, in bytes.
    fn size(&self) -> usize {
        let parts = match self {
            Stack::Unwound { recipe, modules, code, callers, .. } => {
                let names = callers.iter().filter_map(|caller| caller.in_module.as_ref());
                let names: usize = names.map(|name| name.len()).sum();
                let modules = size_of_val(&**modules) + size_of_val(&**code);
                size_of_val(&**callers) + modules + names + recipe.size()
            }
            Stack::Waiting(capture) => capture.size(),
        };
        size_of::<Entry>() + parts
    }
}

/// The stacks of one vCPU, bounded by [`MOST_STACKS`] and [`MOST_BYTES`].
#[derive(Debug)]
pub struct CaptureTable {
    /// Maximum number of frames of a chain.
    depth: usize,
    stacks: Vec<Entry>,
    /// Indexed by the number of the site.
    sites: Vec<SiteStacks>,
    /// Waiting stacks by [`Scratch::key`].
    waiting: HashMap<u64, StackId>,
    hasher: RandomState,
    bytes: usize,
    scratch: Scratch,
}

impl CaptureTable {
    /// Creates an empty table. Chains have at most `depth` frames.
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

    /// Finds or adds the stack of an access. `read` fills bytes from a linear address.
    pub fn find(
        &mut self,
        site: u32,
        KnownKernel { kernel, may_change }: KnownKernel<'_>,
        start: &Start,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) -> Found {
        let stacks = &self.stacks;
        let matches = |&id: &StackId| stacks[id.0 as usize].stack.is_at(start, read);
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
        let stack = Stack::unwound(unwound, start, kernel, read);
        let id = room.then(|| self.insert(site, stack)).flatten();
        if let Some(id) = id {
            site_of(&mut self.sites, site).stacks.insert(0, id);
        }
        Found { stack: id, is_new: true, waits: false }
    }

    /// Finds or adds the unknown stack of a site.
    pub fn find_unknown(&mut self, site: u32) -> Found {
        let known = site_of(&mut self.sites, site).unknown;
        let stack = known.or_else(|| {
            let start = Start::flat(0, 0, 0);
            let unwound = unwind(None, &start, 0, &mut |_, _| false);
            debug_assert_eq!(unwound.chain, Chain { frames: Vec::new(), end: End::Unknown });
            self.insert(site, Stack::unwound(unwound, &start, None, &mut |_, _| false))
        });
        site_of(&mut self.sites, site).unknown = stack;
        Found { stack, is_new: known.is_none(), waits: false }
    }

    /// Keeps a copy of a stack, unless there is one already.
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

    /// Unwinds the waiting stacks, as far as the kernel is known. While more may be known, the others wait on.
    ///
    /// The stack `current` was copied at this access. Modules may have been replaced since the others were copied, so the
    /// chains of those end at the first frame in a module, which gets no name.
    pub fn resolve(
        &mut self,
        KnownKernel { kernel, may_change }: KnownKernel<'_>,
        current: Option<StackId>,
        read: &mut impl FnMut(u64, &mut [u8]) -> bool,
    ) {
        let Some(kernel) = kernel else { return };
        let (stacks, bytes, depth) = (&mut self.stacks, &mut self.bytes, self.depth);
        self.waiting.retain(|_, id| {
            let Entry { stack, .. } = &mut stacks[id.0 as usize];
            let Stack::Waiting(capture) = stack else { return false };
            let is_current = current == Some(*id);
            let mut met_module = false;
            // The copy of the stack, and the tables of the kernel, which do not change.
            let mut read_both = |linear: u64, into: &mut [u8]| {
                if capture.read(linear, into) {
                    return true;
                }
                let of_module = kernel.describes_module_at(linear);
                met_module |= of_module;
                let may_read = kernel.has_table_at(linear) || of_module && is_current;
                may_read && read(linear, into)
            };
            let unwound = unwind(Some(kernel), &capture.start, depth, &mut read_both);
            let is_final = !may_change || met_module && !is_current;
            if unwound.lacks_tables && !is_final {
                return true;
            }
            let mut read = |linear: u64, into: &mut [u8]| {
                (is_current || !kernel.describes_module_at(linear)) && read(linear, into)
            };
            let unwound = Stack::unwound(unwound, &capture.start, Some(kernel), &mut read);
            *bytes = *bytes - stack.size() + unwound.size();
            *stack = unwound;
            false
        });
    }

    /// Marks all stacks as unknown: the kernel is known now, so each is unwound again.
    pub fn mark_all_unknown(&mut self) {
        self.sites.clear();
    }

    /// Gives up all waiting stacks: their kernel is gone.
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

    /// The callers of a stack, and why the chain ends; `None` if it was not unwound.
    pub fn chain(&self, id: StackId) -> Option<(&[Caller], End)> {
        match &self.stacks[id.0 as usize].stack {
            Stack::Unwound { callers, end, .. } => Some((callers, *end)),
            Stack::Waiting(_) => None,
        }
    }

    /// All callers in all chains, each with its site.
    pub fn callers(&self) -> impl Iterator<Item = (u32, &Caller)> {
        self.stacks.iter().flat_map(|Entry { site, stack }| {
            let callers: &[Caller] = match stack {
                Stack::Unwound { callers, .. } => callers,
                Stack::Waiting(_) => &[],
            };
            callers.iter().map(|caller| (*site, caller))
        })
    }

    /// The number of stacks that wait.
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
