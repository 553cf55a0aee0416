//! VMCOREINFO: a page of text with which a kernel describes its memory to crash tools.

use super::PhysicalMemory;
use crate::x86::PAGE;

/// The first bytes of the text and of its page.
const FIRST: &[u8] = b"OSRELEASE=";

/// Maximum number of pages that are tried. Kernels that ran before a reset may have left theirs.
const MOST: usize = 64;

/// The linear address of the image in 64-bit kernels: Linux's `__START_KERNEL_map`.
const IMAGE: u64 = 0xffff_ffff_8000_0000;

/// The text of one kernel.
pub(super) struct VmCoreInfo(String);

impl VmCoreInfo {
    /// Finds every VMCOREINFO in memory.
    pub(super) fn search(memory: &impl PhysicalMemory) -> impl Iterator<Item = VmCoreInfo> {
        let ranges = memory.ranges().into_iter();
        let pages = ranges.flat_map(|range| range.step_by(PAGE as usize));
        pages.filter_map(|page| VmCoreInfo::read(memory, page)).take(MOST)
    }

    fn read(memory: &impl PhysicalMemory, page: u64) -> Option<VmCoreInfo> {
        let mut first = [0; FIRST.len()];
        if !memory.read(page, &mut first) || first != FIRST {
            return None;
        }
        let mut bytes = [0; PAGE as usize];
        memory.read(page, &mut bytes).then_some(())?;
        let end = memchr::memchr(0, &bytes)?;
        Some(VmCoreInfo(std::str::from_utf8(&bytes[..end]).ok()?.to_owned()))
    }

    /// Returns true if it says where the symbol table is, as kernels do since 6.0.
    pub(super) fn has_symbol_table(&self) -> bool {
        self.symbol("kallsyms_names").is_some()
    }

    /// The text after `KEY=`.
    fn value(&self, key: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// The kernel's release.
    pub(super) fn release(&self) -> Option<&str> {
        self.value("OSRELEASE")
    }

    /// The distance in bytes from the linked to the run-time address.
    pub(super) fn kaslr_offset(&self) -> Option<u64> {
        u64::from_str_radix(self.value("KERNELOFFSET")?, 16).ok()
    }

    /// The build id of the kernel's image, in hexadecimal (since 5.9).
    pub(super) fn build_id(&self) -> Option<&str> {
        self.value("BUILD-ID")
    }

    /// The physical address of the kernel's own page table. Only 64-bit kernels have it.
    pub(super) fn page_table(&self) -> Option<u64> {
        let base: i64 = self.value("NUMBER(phys_base)")?.parse().ok()?;
        Some(self.symbol("swapper_pg_dir")?.wrapping_sub(IMAGE).wrapping_add_signed(base))
    }

    /// The address of a symbol.
    pub(super) fn symbol(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.value(&format!("SYMBOL({name})"))?, 16).ok()
    }

    /// Returns true if this is the kernel that runs: page tables map its `_stext` where it says.
    pub(super) fn is_mapped(&self, translate: impl Fn(u64) -> Option<u64>) -> bool {
        let Some(stext) = self.symbol("_stext") else { return false };
        let Some(physical) = translate(stext) else { return false };
        match self.value("NUMBER(phys_base)").map(str::parse::<i64>) {
            // 32-bit kernels do not have it.
            None => stext >> 32 == 0,
            Some(Ok(base)) => stext.wrapping_sub(IMAGE).wrapping_add_signed(base) == physical,
            Some(Err(_)) => false,
        }
    }
}
