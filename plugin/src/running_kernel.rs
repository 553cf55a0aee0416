//! The Linux kernel that runs in the guest, as vCPU threads know it while the guest runs.
//!
//! A search takes tens of milliseconds, so it is made only when somebody asks, and rarely: at the first request, and
//! then each time after four times as many. Names in a dump need none of this: they are looked for when the dump is
//! made.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::guest::{Kernel, PhysicalMemory};
use crate::symbols::GuestKernels;

/// The most searches that fail one after another.
const MOST_SEARCHES: u32 = 8;
/// How many times as many requests come before the next search.
const BACK_OFF: u64 = 4;
/// The most times that a kernel is read in one boot. It is read again when it may have more modules.
const MOST_READ: u64 = 8;

/// The kernel that runs, or is looked for.
pub struct RunningKernel {
    kernels: GuestKernels,
    known: Mutex<Option<Arc<Kernel>>>,
    /// Changes with `known`.
    generation: AtomicU64,
    /// A vCPU searches.
    searches: AtomicBool,
    turns: Turns,
}

/// Which requests search.
#[derive(Default)]
struct Turns {
    /// Requests since the last success or reset.
    requests: AtomicU64,
    /// Kernels read since the last reset.
    read: AtomicU64,
}

impl Turns {
    fn reset(&self) {
        self.requests.store(0, Ordering::Relaxed);
        self.read.store(0, Ordering::Relaxed);
    }

    /// A search had success.
    fn succeeded(&self) {
        self.requests.store(0, Ordering::Relaxed);
        self.read.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether requests of this boot search no more.
    fn is_final(&self) -> bool {
        self.requests.load(Ordering::Relaxed) >= BACK_OFF.pow(MOST_SEARCHES - 1)
            || self.read.load(Ordering::Relaxed) >= MOST_READ
    }

    /// Counts a request. Returns whether it may search.
    fn request(&self) -> bool {
        let is_over = self.is_final();
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        !is_over && (0..MOST_SEARCHES).any(|power| BACK_OFF.pow(power) == number)
    }
}

impl RunningKernel {
    /// Searches for kernels in this machine. No kernel is known yet.
    pub fn new(kernels: GuestKernels) -> RunningKernel {
        RunningKernel {
            kernels,
            known: Mutex::default(),
            generation: AtomicU64::new(0),
            searches: AtomicBool::new(false),
            turns: Turns::default(),
        }
    }

    /// The machine is reset: another kernel will run.
    pub fn reset(&self) {
        self.turns.reset();
        self.set(None);
    }

    /// Searches now, whatever was searched before. For dumps.
    pub fn find_now(&self) -> Option<Arc<Kernel>> {
        let kernel = self.kernels.find().map(Arc::new);
        if kernel.is_some() {
            self.set(kernel.clone());
        }
        kernel
    }

    /// The guest's memory, for what a kernel does not have read yet.
    pub fn memory(&self) -> &impl PhysicalMemory {
        self.kernels.memory()
    }

    /// Counts a request, and searches if it is the turn. Returns whether a kernel was found.
    fn request(&self) -> bool {
        if !self.turns.request() || self.searches.swap(true, Ordering::Acquire) {
            return false;
        }
        let kernel = self.kernels.find();
        let is_found = kernel.is_some();
        if let Some(kernel) = kernel {
            self.set(Some(Arc::new(kernel)));
            self.turns.succeeded();
        }
        self.searches.store(false, Ordering::Release);
        is_found
    }

    fn set(&self, kernel: Option<Arc<Kernel>>) {
        let mut known = self.lock();
        *known = kernel;
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Held for a moment, never during a search.
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Kernel>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one vCPU thread knows of the kernel that runs.
pub struct KernelView {
    running: Arc<RunningKernel>,
    generation: u64,
    kernel: Option<Arc<Kernel>>,
}

impl KernelView {
    /// A view of the kernel that runs.
    pub fn new(running: Arc<RunningKernel>) -> KernelView {
        KernelView { running, generation: 0, kernel: None }
    }

    /// The kernel, if it is known by now. Costs a load, nearly always.
    #[inline]
    pub fn known(&mut self) -> Option<&Arc<Kernel>> {
        if self.running.generation.load(Ordering::Acquire) != self.generation {
            self.look();
        }
        self.kernel.as_ref()
    }

    /// A number that changes when another kernel is known, or the same was read again.
    #[inline]
    pub fn generation(&mut self) -> u64 {
        self.known();
        self.generation
    }

    /// Asks for a search, because no kernel is known or the one that is lacks something, such as a module.
    ///
    /// Call it where a kernel runs: in supervisor code with paging on. Returns whether one was found just now.
    pub fn search(&mut self) -> bool {
        let is_found = self.running.request();
        self.known();
        is_found
    }

    /// Whether there will be no more searches in this boot.
    pub fn is_final(&self) -> bool {
        self.running.turns.is_final()
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
        let turns = Turns::default();
        let searched = || (1..100_000).filter(|_| turns.request()).collect::<Vec<_>>();
        assert_eq!(searched(), [1, 4, 16, 64, 256, 1024, 4096, 16_384]);
        assert!(turns.is_final());
        turns.reset();
        for read in 0..20 {
            assert_eq!(turns.is_final(), read >= MOST_READ);
            assert_eq!(turns.request(), read < MOST_READ, "{read}");
            turns.succeeded();
        }
        assert!(searched().is_empty());
    }
}
