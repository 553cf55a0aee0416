//! Assigns sites to kernels: several may run one after another in the same memory.
//!
//! A kernel's names are in its own memory, so they are read before it ends: before a reset, and before it starts another
//! kernel (kexec). pvio searches for the next kernel when the next site is entered, or at a dump. After a snapshot was
//! loaded, the next kernel is usually one that ran before, and it gets its own sites back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrayvec::ArrayVec;

use crate::guest::KernelIdentity;
use crate::running_kernel::RunningKernel;
use crate::stats::Statistics;
use crate::symbols::{Names, Symbols};
use crate::x86::Mode;

/// Maximum number of kernels that are recognized when they run again.
const MAX_KERNELS: usize = 256;
/// Maximum number of page tables of one kernel that are remembered.
const MAX_TABLES: usize = 8;
/// The lowest address of most 32-bit kernels.
const KERNEL_HALF_32: u64 = 0xc000_0000;

/// Follows the kernels of one machine.
///
/// Its lock is taken before that of the sites.
pub struct KernelBoots {
    statistics: Arc<Statistics>,
    symbols: Arc<Symbols>,
    /// The kernel that runs; `None` if it is not needed, or guest memory cannot be read.
    running: Option<Arc<RunningKernel>>,
    /// The kernels that ended, each with the number of its boot.
    ended: Mutex<Vec<(KernelIdentity, u32)>>,
    /// True if a kernel ended, and pvio has not searched for its successor yet.
    is_open: AtomicBool,
    /// CR3 when a kernel's site was last translated; 0 if none was since a kernel ended.
    table: AtomicU64,
    /// The page tables with which the kernel's sites were translated.
    tables: Mutex<ArrayVec<u64, MAX_TABLES>>,
}

impl KernelBoots {
    /// Follows the kernels that run the sites of `statistics`, with names by `symbols`.
    pub fn new(
        statistics: Arc<Statistics>,
        symbols: Arc<Symbols>,
        running: Option<Arc<RunningKernel>>,
    ) -> KernelBoots {
        KernelBoots {
            statistics,
            symbols,
            running,
            ended: Mutex::default(),
            is_open: AtomicBool::new(false),
            table: AtomicU64::new(0),
            tables: Mutex::default(),
        }
    }

    /// Names the sites of the kernel that runs, before the machine is reset.
    pub fn before_reset(&self) {
        let mut ended = self.lock();
        if let Some(running) = &self.running {
            self.statistics.resolve_stacks(running, true);
            running.reset();
        }
        if self.is_open.load(Ordering::Relaxed) {
            return;
        }
        self.table.store(0, Ordering::Relaxed);
        self.tables().clear();
        let names = self.with_sites(|sites| self.symbols.judge(sites));
        self.end(&mut ended, &names);
    }

    /// Returns true if supervisor code at an address that loads a control register may replace the kernel.
    ///
    /// Before a kernel starts another, it continues in a copy of a page at its physical address, and switches to page tables
    /// that map all memory in this way.
    #[inline]
    pub fn may_be_replaced_at(&self, pc: u64) -> bool {
        pc >> 47 == 0 && self.table.load(Ordering::Relaxed) != 0
    }

    /// Names the sites of the kernel, before code that may replace it runs.
    ///
    /// Call it only where [`KernelBoots::may_be_replaced_at`] returns true.
    pub fn before_replacement(&self, pc: u64, mode: Mode) {
        let mut ended = self.lock();
        let is_outside = match mode {
            Mode::Bits64 => true,
            Mode::Bits32 => pc < KERNEL_HALF_32,
            Mode::Bits16 => false,
        };
        if !is_outside || self.is_open.load(Ordering::Relaxed) {
            return;
        }
        if self.table.swap(0, Ordering::Relaxed) == 0 {
            return;
        }
        let tables = std::mem::take(&mut *self.tables());
        let names = self.with_sites(|sites| self.symbols.judge_left(sites, &tables));
        if let (Some(running), Some(kernel)) = (&self.running, names.kernel()) {
            self.statistics.resolve_stacks_of(running, kernel);
            running.reset();
        }
        self.end(&mut ended, &names);
    }

    /// Prepares for entering a site or call site that is translated, with this table in CR3 if that is known.
    ///
    /// Searches for a kernel's successor if the kernel ended, and notes the module that has the code.
    pub fn before_site(&self, pc: u64, mode: Option<Mode>, bytes: &[u8], table: Option<u64>) {
        self.settle();
        let is_of_kernel = is_of_kernel(pc, mode);
        if !is_of_kernel && self.table.load(Ordering::Relaxed) == 0 {
            self.symbols.see_firmware(pc);
        }
        if let Some(table) = table.filter(|_| is_of_kernel)
            && let last = self.table.swap(table, Ordering::Relaxed)
            && last != table
        {
            note_table(&mut self.tables(), table);
            if last == 0 {
                self.before_kernel();
            }
        }
        if is_of_kernel {
            self.see_kernel_code(pc, bytes);
        }
    }

    fn see_kernel_code(&self, pc: u64, bytes: &[u8]) {
        let namer = || self.running.as_ref()?.known_or_found()?.module_namer();
        self.symbols.see_kernel_code(pc, bytes, namer);
    }

    /// Names the sites of firmware, because a kernel begins, which will reuse the memory.
    fn before_kernel(&self) {
        let _ended = self.lock();
        let names = self.with_sites(|sites| self.symbols.judge_firmware(sites));
        if names.has_firmware() {
            self.statistics.keep_names(&names);
        }
    }

    /// Searches for the running kernel, if another one ended before.
    pub fn settle(&self) {
        if !self.is_open.load(Ordering::Acquire) {
            return;
        }
        let ended = self.lock();
        // Another vCPU may have been faster.
        if !self.is_open.load(Ordering::Relaxed) {
            return;
        }
        let names = self.symbols.judge(&[]);
        let known = names.kernel().and_then(|kernel| {
            ended.iter().find(|(identity, _)| identity == kernel.identity()).map(|&(_, boot)| boot)
        });
        match known {
            Some(boot) => self.statistics.sites.resume_boot(boot),
            None => self.statistics.sites.next_boot(),
        }
        self.symbols.begin_boot(self.statistics.sites.boot());
        self.is_open.store(false, Ordering::Release);
    }

    /// Names the sites of the kernel that ran, and ends its boot.
    fn end(&self, ended: &mut Vec<(KernelIdentity, u32)>, names: &Names<'_>) {
        let Some(kernel) = names.kernel() else { return };
        self.statistics.keep_names(names);
        ended.retain(|(identity, _)| identity != kernel.identity());
        if ended.len() == MAX_KERNELS {
            ended.remove(0);
        }
        ended.push((kernel.identity().clone(), self.statistics.sites.boot()));
        self.is_open.store(true, Ordering::Release);
    }

    /// Calls `work` with the sites of the kernel that runs.
    fn with_sites<R>(&self, work: impl FnOnce(&[(u64, &[u8])]) -> R) -> R {
        let sites = &self.statistics.sites;
        let boot = sites.boot();
        let own = sites.iter().filter(|(_, site)| site.boot == boot);
        let own = own.map(|(_, site)| (site.key.pc, &site.key.bytes[..]));
        let calls = self.statistics.call_sites.iter();
        let calls = calls.filter(|(_, site)| site.boot == boot && !site.code.is_empty());
        let own: Vec<_> = own.chain(calls.map(|(_, site)| (site.key.pc, site.code))).collect();
        work(&own)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(KernelIdentity, u32)>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tables(&self) -> MutexGuard<'_, ArrayVec<u64, MAX_TABLES>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes a page table of the kernel that runs.
///
/// Tables of processes that ended may be overwritten. The kernel boots with its own, so the first ones stay.
fn note_table(tables: &mut ArrayVec<u64, MAX_TABLES>, table: u64) {
    if tables.contains(&table) {
        return;
    }
    if tables.is_full() {
        tables.remove(MAX_TABLES / 2);
    }
    tables.push(table);
}

/// Returns true if code at an address may be a Linux kernel's.
fn is_of_kernel(pc: u64, mode: Option<Mode>) -> bool {
    match mode {
        Some(Mode::Bits64) => pc >> 63 != 0,
        Some(Mode::Bits32) => pc >= KERNEL_HALF_32,
        Some(Mode::Bits16) | None => false,
    }
}
