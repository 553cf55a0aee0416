//! The names of the code that makes accesses, by number, so that records stay small.
//!
//! Symbol files name code at once. The guest's kernel names code as soon as it is found; the first accesses of its code
//! start the search.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::vcpu_log::{Code, CodeKind};
use crate::running_kernel::{KernelView, RunningKernel};
use crate::stats::{MAX_SITES, SiteId, Sites};
use crate::symbols::{LiveNames, later};
use crate::untrusted_text::escape;

/// Maximum number of names that are kept. Further code has no name.
const MAX_NAMES: usize = 1 << 17;

/// The first bytes of a hypercall's instruction: a long NOP; in 16-bit code after a prefix.
const CALLS: [&[u8]; 2] = [&[0x0f, 0x1f, 0x80], &[0x67, 0x0f, 0x1f, 0x80]];

/// The number of a name; 0 if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameId(u32);

/// Names for sites, each looked up once, and again when it may have another name.
pub struct CodeNames {
    sites: Arc<Sites>,
    files: LiveNames,
    /// `None` if the guest's kernel must not name code.
    kernel: Option<Arc<RunningKernel>>,
    texts: boxcar::Vec<Box<str>>,
    numbers: Mutex<HashMap<Box<str>, NameId>>,
    /// For each site, the epoch of the lookup, and the number of the name.
    of_sites: Box<[AtomicU64]>,
}

impl CodeNames {
    /// Creates names for these sites, from files first, and then from the running kernel.
    pub fn new(
        sites: Arc<Sites>,
        files: LiveNames,
        kernel: Option<Arc<RunningKernel>>,
    ) -> CodeNames {
        CodeNames {
            sites,
            files,
            kernel,
            texts: boxcar::Vec::new(),
            numbers: Mutex::default(),
            of_sites: bytemuck::zeroed_slice_box(MAX_SITES),
        }
    }

    /// The kernel that names code.
    pub fn kernel(&self) -> Option<Arc<RunningKernel>> {
        self.kernel.clone()
    }

    /// The text of a name; `None` if it is not known.
    pub fn text(&self, NameId(number): NameId) -> Option<&str> {
        let index = number.checked_sub(1)?;
        self.texts.get(index as usize).map(|text| &**text)
    }

    /// The text of a name of code, as [`CodeNames::name`] finds it.
    pub fn name_of(&self, code: Code, view: Option<&mut KernelView>) -> Option<&str> {
        self.text(self.name(code, view))
    }

    /// Names code of the guest that begins with these bytes, on the thread of a vCPU.
    pub fn name_at(&self, pc: u64, bytes: &[u8], view: Option<&mut KernelView>) -> Option<String> {
        let by_file = self.files.name(pc, bytes);
        let name = by_file.or_else(|| self.by_kernel(pc, bytes, view?))?;
        Some(escape(name.as_bytes()))
    }

    /// Names code that makes an access now, on the thread of its vCPU, whose view of the kernel is `view`.
    pub fn name(&self, code: Code, view: Option<&mut KernelView>) -> NameId {
        match code.kind {
            CodeKind::Site(site) => self.name_of_site(site, code.pc, view),
            CodeKind::Dropped => NameId::default(),
            CodeKind::Call => {
                let by_file = || CALLS.iter().find_map(|bytes| self.files.name(code.pc, bytes));
                let by_kernel = |view: &mut KernelView| {
                    CALLS.iter().find_map(|bytes| self.by_kernel(code.pc, bytes, &mut *view))
                };
                self.number(by_file().or_else(|| by_kernel(view?)))
            }
            CodeKind::CallFrom => {
                // A call may be the last instruction of its function. Its bytes are not known.
                let before = code.pc.wrapping_sub(1);
                let by_file = self.files.name(before, &[]);
                let name = by_file.or_else(|| self.by_kernel(before, &[], view?));
                self.number(name.map(|name| later(&name, 1)))
            }
        }
    }

    fn name_of_site(&self, site: SiteId, pc: u64, mut view: Option<&mut KernelView>) -> NameId {
        let known = &self.of_sites[site.0 as usize];
        let (epoch, number) = halves(known.load(Ordering::Relaxed));
        let mut now = self.epoch(&mut view);
        if number == 0
            && let Some(view) = &mut view
            && is_kernel_address(pc)
            && view.search()
        {
            now = self.epoch(&mut Some(view));
        }
        if epoch == now && (number != 0 || !self.files.may_name_more()) {
            return NameId(number);
        }
        let bytes = &self.sites.get(site).key.bytes;
        let by_file = self.files.name(pc, bytes);
        let name = by_file.or_else(|| self.by_kernel(pc, bytes, view.as_mut()?));
        let name = self.number(name);
        let epoch = self.epoch(&mut view);
        known.store(u64::from(epoch) << 32 | u64::from(name.0), Ordering::Relaxed);
        name
    }

    /// A number, never 0, that changes when a name may have changed.
    fn epoch(&self, view: &mut Option<&mut KernelView>) -> u32 {
        let kernels = view.as_mut().map_or(0, |view| view.generation() as u32);
        self.files.epoch().wrapping_add(kernels).wrapping_add(1)
    }

    /// The running kernel's name for an instruction, if it has these bytes there.
    fn by_kernel(&self, pc: u64, bytes: &[u8], view: &mut KernelView) -> Option<String> {
        let memory = self.kernel.as_ref()?.memory();
        // The kernel that is known may lack a module, or have one that was unloaded.
        if let Some(name) = self.files.name_in_module(pc, bytes) {
            return Some(name);
        }
        let kernel = view.known()?;
        let name = kernel.name(pc).filter(|name| name.module.is_none())?;
        (kernel.has_bytes(memory, pc, bytes) == Some(true)).then(|| name.to_string())
    }

    fn number(&self, text: Option<String>) -> NameId {
        let Some(text) = text else { return NameId::default() };
        let text = escape(text.as_bytes()).into_boxed_str();
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = numbers.get(&text) {
            return number;
        }
        if numbers.len() == MAX_NAMES {
            return NameId::default();
        }
        let number = NameId(self.texts.push(text.clone()) as u32 + 1);
        numbers.insert(text, number);
        number
    }
}

/// Returns true if an address may be a Linux kernel's. Firmware has the last 16 MiB below 4 GiB.
fn is_kernel_address(pc: u64) -> bool {
    pc >> 63 != 0 || (0xc000_0000..0xff00_0000).contains(&pc)
}

fn halves(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}
