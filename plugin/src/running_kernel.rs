//! The Linux kernel that runs in the guest, for vCPU threads while the guest runs.
//!
//! A search takes tens of milliseconds, so only some requests start one: the first, the fourth, the sixteenth, and so on.
//! A dump makes its own search. So does the first port instruction in a module, because a module's name is lost when the
//! module is unloaded.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::guest::{Kernel, PhysicalMemory};
use crate::symbols::GuestKernels;

/// Maximum number of searches in a row that fail.
const MOST_SEARCHES: u32 = 8;
/// The ratio of the numbers of requests at two successive searches.
const BACK_OFF: u64 = 4;
/// Maximum number of page tables for each of which the searches start anew, in one boot.
const MOST_TABLES: u64 = 16;
/// Maximum number of times that a kernel is read in one boot. It is read again for its new modules.
const MOST_READ: u64 = 8;

/// The running kernel, once it is found.
pub struct RunningKernel {
    kernels: GuestKernels,
    known: Mutex<Option<Arc<Kernel>>>,
    /// Changes with `known`.
    generation: AtomicU64,
    /// True if a vCPU searches now.
    searches: AtomicBool,
    schedule: SearchSchedule,
}

/// Decides which requests search.
#[derive(Default)]
struct SearchSchedule {
    /// Requests since the last success, reset, or new page table.
    requests: AtomicU64,
    /// Page tables since the last reset.
    tables: AtomicU64,
    /// Kernels read since the last reset.
    read: AtomicU64,
}

impl SearchSchedule {
    fn reset(&self) {
        self.requests.store(0, Ordering::Relaxed);
        self.tables.store(0, Ordering::Relaxed);
        self.read.store(0, Ordering::Relaxed);
    }

    /// Starts the searches anew, unless there were [`MOST_TABLES`].
    fn new_table(&self) {
        if self.tables.fetch_add(1, Ordering::Relaxed) < MOST_TABLES {
            self.requests.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that a search found the kernel.
    fn succeeded(&self) {
        self.requests.store(0, Ordering::Relaxed);
        self.read.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns true if no more requests of this boot search.
    fn is_final(&self) -> bool {
        self.requests.load(Ordering::Relaxed) >= BACK_OFF.pow(MOST_SEARCHES - 1)
            || self.read.load(Ordering::Relaxed) >= MOST_READ
    }

    /// Counts a request. Returns whether it should search.
    fn request(&self) -> bool {
        let is_over = self.is_final();
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        !is_over && (0..MOST_SEARCHES).any(|power| BACK_OFF.pow(power) == number)
    }
}

impl RunningKernel {
    /// Creates a search with `kernels`. No kernel is known yet.
    pub fn new(kernels: GuestKernels) -> RunningKernel {
        RunningKernel {
            kernels,
            known: Mutex::default(),
            generation: AtomicU64::new(0),
            searches: AtomicBool::new(false),
            schedule: SearchSchedule::default(),
        }
    }

    /// Forgets the kernel, because the machine is reset.
    pub fn reset(&self) {
        self.schedule.reset();
        self.set(None);
    }

    /// Searches now, regardless of earlier searches. For dumps.
    pub fn find_now(&self) -> Option<Arc<Kernel>> {
        let kernel = self.kernels.find().map(Arc::new);
        if kernel.is_some() {
            self.set(kernel.clone());
        }
        kernel
    }

    /// Returns the kernel that is known, otherwise the result of a search.
    pub fn known_or_found(&self) -> Option<Arc<Kernel>> {
        let known = self.lock().clone();
        known.or_else(|| self.find_now())
    }

    /// The guest's memory, for tables that are read on demand.
    pub fn memory(&self) -> &impl PhysicalMemory {
        self.kernels.memory()
    }

    /// Counts a request, and searches if it is due. Returns whether a kernel was found.
    fn request(&self) -> bool {
        if !self.schedule.request() || self.searches.swap(true, Ordering::Acquire) {
            return false;
        }
        let kernel = self.kernels.find();
        let is_found = kernel.is_some();
        if let Some(kernel) = kernel {
            self.set(Some(Arc::new(kernel)));
            self.schedule.succeeded();
        }
        self.searches.store(false, Ordering::Release);
        is_found
    }

    fn set(&self, kernel: Option<Arc<Kernel>>) {
        let mut known = self.lock();
        *known = kernel;
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The lock is held for a moment, never during a search.
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Kernel>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One vCPU thread's copy of [`RunningKernel`].
pub struct KernelView {
    running: Arc<RunningKernel>,
    generation: u64,
    kernel: Option<Arc<Kernel>>,
}

impl KernelView {
    /// Creates a view, which knows no kernel yet.
    pub fn new(running: Arc<RunningKernel>) -> KernelView {
        KernelView { running, generation: 0, kernel: None }
    }

    /// The kernel, if it is known by now. Usually costs one load.
    #[inline]
    pub fn known(&mut self) -> Option<&Arc<Kernel>> {
        if self.running.generation.load(Ordering::Acquire) != self.generation {
            self.look();
        }
        self.kernel.as_ref()
    }

    /// A number that changes when a kernel becomes known, or is read again.
    #[inline]
    pub fn generation(&mut self) -> u64 {
        self.known();
        self.generation
    }

    /// Requests a search, because no kernel is known, or the known one lacks a module.
    ///
    /// Call it while a kernel runs: in supervisor code with paging enabled. Returns whether this request found one.
    pub fn search(&mut self) -> bool {
        let is_found = self.running.request();
        self.known();
        is_found
    }

    /// Notes that another page table is in use, while no kernel is known.
    ///
    /// UEFI firmware pages, too: its requests must not use up the searches of the kernel that it starts.
    pub fn uses_new_table(&self) {
        self.running.schedule.new_table();
    }

    /// Returns true if this boot has no more searches.
    pub fn is_final(&self) -> bool {
        self.running.schedule.is_final()
    }

    #[cold]
    fn look(&mut self) {
        let known = self.running.lock();
        self.generation = self.running.generation.load(Ordering::Acquire);
        self.kernel = known.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_are_rare_and_come_to_an_end() {
        let schedule = SearchSchedule::default();
        let searched = || (1..100_000).filter(|_| schedule.request()).collect::<Vec<_>>();
        assert_eq!(searched(), [1, 4, 16, 64, 256, 1024, 4096, 16_384]);
        assert!(schedule.is_final());
        schedule.reset();
        for read in 0..20 {
            assert_eq!(schedule.is_final(), read >= MOST_READ);
            assert_eq!(schedule.request(), read < MOST_READ, "{read}");
            schedule.succeeded();
        }
        assert!(searched().is_empty());
    }

    #[test]
    fn searches_start_anew_with_a_new_page_table_but_not_forever() {
        let schedule = SearchSchedule::default();
        let searched = || (1..20_000).filter(|_| schedule.request()).count();
        assert_eq!((searched(), searched()), (8, 0));
        for _ in 0..MOST_TABLES {
            schedule.new_table();
            assert_eq!((searched(), searched()), (8, 0));
        }
        schedule.new_table();
        assert_eq!(searched(), 0);
        schedule.reset();
        schedule.new_table();
        assert_eq!(searched(), 8);
    }
}
