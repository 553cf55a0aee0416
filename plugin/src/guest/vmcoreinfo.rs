//! VMCOREINFO: a page of text in which a kernel says what a reader of its memory needs.

use super::PhysicalMemory;
use crate::x86::PAGE;

/// How the text begins, at the beginning of its page.
const FIRST: &[u8] = b"OSRELEASE=";

/// How many such pages are looked at. Kernels that ran before a reset may have left theirs.
const MOST: usize = 64;

/// Where the image is mapped to in 64-bit kernels: Linux's `__START_KERNEL_map`.
const IMAGE: u64 = 0xffff_ffff_8000_0000;

/// The text of one kernel.
pub(super) struct VmCoreInfo(String);

impl VmCoreInfo {
    /// All in memory that name the tables of symbols, as kernels do since 6.0, one after another.
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
        let info = VmCoreInfo(std::str::from_utf8(&bytes[..end]).ok()?.to_owned());
        info.symbol("kallsyms_names").is_some().then_some(info)
    }

    /// What follows `KEY=`.
    fn value(&self, key: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// The kernel's release.
    pub(super) fn release(&self) -> Option<&str> {
        self.value("OSRELEASE")
    }

    /// How far the kernel runs from where it was linked.
    pub(super) fn kaslr_offset(&self) -> Option<u64> {
        u64::from_str_radix(self.value("KERNELOFFSET")?, 16).ok()
    }

    /// The build id of the kernel's image, in hexadecimal (since 5.9).
    pub(super) fn build_id(&self) -> Option<&str> {
        self.value("BUILD-ID")
    }

    /// The physical address of the kernel's own page table; 64-bit kernels alone tell it.
    pub(super) fn page_table(&self) -> Option<u64> {
        let base: i64 = self.value("NUMBER(phys_base)")?.parse().ok()?;
        Some(self.symbol("swapper_pg_dir")?.wrapping_sub(IMAGE).wrapping_add_signed(base))
    }

    /// The address of a symbol.
    pub(super) fn symbol(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.value(&format!("SYMBOL({name})"))?, 16).ok()
    }

    /// Whether the table at the top translates `_stext` as this kernel says it is mapped: whether it is
    /// the kernel that runs.
    pub(super) fn is_mapped(&self, translate: impl Fn(u64) -> Option<u64>) -> bool {
        let Some(stext) = self.symbol("_stext") else { return false };
        let Some(physical) = translate(stext) else { return false };
        match self.value("NUMBER(phys_base)").map(str::parse::<i64>) {
            // 32-bit kernels do not say it.
            None => stext >> 32 == 0,
            Some(Ok(base)) => stext.wrapping_sub(IMAGE).wrapping_add_signed(base) == physical,
            Some(Err(_)) => false,
        }
    }
}
