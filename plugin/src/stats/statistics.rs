//! The statistics of one machine.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pvio_stats::Call;

use super::call_sites::CallSites;
use super::chain_rows::FrameNames;
use super::chains::VcpuChains;
use super::counters::VcpuCounters;
use super::first_accesses::FirstAccesses;
use super::instructions::InstructionCounts;
use super::processes::{ProcessTable, VcpuProcessCounts};
use super::sites::Sites;
use super::totals::{Sign, Totals};
use super::values::{ValuePorts, Values, VcpuValues};
use super::windows::{WindowError, Windows};
use crate::guest::{Kernel, KnownKernel};
use crate::qemu::VcpuIndex;
use crate::running_kernel::RunningKernel;
use crate::symbols::Names;

/// Everything that is counted in one machine: counters, windows and resets.
///
/// Its one lock protects the list of counters and the windows. The lock of the values may be taken
/// while it is held, and no other; counting takes none.
#[derive(Default)]
pub struct Statistics {
    /// The port instructions found so far.
    pub sites: Arc<Sites>,
    /// The code that made hypercalls so far.
    pub call_sites: Arc<CallSites>,
    counted: Mutex<Counted>,
    vcpus_mixed: AtomicBool,
    instructions: Option<Arc<dyn InstructionCounts>>,
    /// Maximum number of frames of a call chain; `None` if call chains are not counted.
    depth: Option<usize>,
    /// `None` if processes are not counted.
    processes: Option<Arc<ProcessTable>>,
    pub(super) frame_names: FrameNames,
    /// `None` if no values are counted.
    pub(super) values: Option<Arc<Values>>,
    /// The number of first accesses that vCPUs have noted.
    firsts: Arc<AtomicU64>,
}

/// The counters of all vCPUs, and the totals that are subtracted from them.
#[derive(Default)]
pub(super) struct Counted {
    pub all_counters: Vec<Arc<VcpuCounters>>,
    pub windows: Windows,
    /// The totals at the last reset. A counter cannot be set to zero, since only its vCPU's thread
    /// writes to it.
    baseline: Totals,
}

impl Counted {
    /// The totals of all vCPUs now.
    pub fn now(&self) -> Totals {
        Totals::of(&self.all_counters)
    }

    /// The part of `now` that was counted after the last reset.
    pub fn since_reset(&self, now: &Totals) -> Totals {
        let mut since = now.clone();
        since.add(&self.baseline, Sign::Minus);
        since
    }
}

/// Windows and resets are requested by hypercalls. A hypercall is counted after it was carried out, so
/// the call that begins a window, or resets, is not in what follows it, nor is the call that ends one.
impl Statistics {
    /// Statistics that also count instructions of every kind, if `counts` is given.
    pub fn with_instructions(counts: Option<Arc<dyn InstructionCounts>>) -> Statistics {
        Statistics { instructions: counts, ..Statistics::default() }
    }

    /// Counts accesses by call chain, of at most `depth` frames.
    pub fn count_callers(&mut self, depth: usize) {
        self.depth = Some(depth);
    }

    /// Counts accesses by process.
    pub fn count_processes(&mut self) {
        self.processes = Some(Arc::default());
    }

    /// The processes that were seen, if processes are counted.
    pub fn processes(&self) -> Option<&Arc<ProcessTable>> {
        self.processes.as_ref()
    }

    /// Counts values at ports.
    ///
    /// No scalar may be counted by [`VcpuCounters::scalar`] then.
    pub fn follow_values(&mut self, ports: ValuePorts) {
        self.values = Some(Arc::new(Values::new(ports)));
    }

    /// Returns true if values at ports are counted.
    pub fn has_values(&self) -> bool {
        self.values.is_some()
    }

    /// Creates a vCPU's handle to the values at ports; `None` if no values are counted.
    pub fn vcpu_values(&self) -> Option<VcpuValues> {
        self.values.as_ref().map(|values| VcpuValues::new(Arc::clone(values)))
    }

    /// Unwinds the stacks that wait for the kernel to be known.
    pub fn resolve_stacks(&self, running: &RunningKernel, kernel_ends: bool) {
        self.resolve(running, kernel_ends, || running.find_now());
    }

    /// Unwinds the stacks of a kernel that ends and that the vCPUs' page tables no longer map.
    pub fn resolve_stacks_of(&self, running: &RunningKernel, kernel: &Kernel) {
        self.resolve(running, true, || Some(kernel));
    }

    /// If the kernel ends, stacks that cannot be unwound now are given up.
    fn resolve<K: Deref<Target = Kernel>>(
        &self,
        running: &RunningKernel,
        kernel_ends: bool,
        kernel: impl FnOnce() -> Option<K>,
    ) {
        let all_counters = self.lock().all_counters.clone();
        let chains = || all_counters.iter().filter_map(|counters| counters.chains());
        if chains().any(|chains| chains.stacks().waiting() > 0) {
            let kernel = kernel();
            let known = KnownKernel { kernel: kernel.as_deref(), may_change: !kernel_ends };
            chains().for_each(|chains| chains.resolve(known, running));
        }
        if kernel_ends {
            chains().for_each(|chains| chains.stacks().stop_waiting());
        }
    }

    /// Keeps the current names of the running kernel's sites and frames, because its boot ends.
    pub fn keep_names(&self, names: &Names<'_>) {
        let all_counters = self.lock().all_counters.clone();
        self.frame_names.keep(&all_counters, (&self.sites, &self.call_sites), names);
        self.call_sites.keep_names(self.sites.boot(), names);
        self.sites.keep_names(|site| names.name(site.key.pc, &site.key.bytes));
    }

    /// Creates the counters of a vCPU. Only one thread at a time may count into them.
    pub fn counters(&self, index: VcpuIndex) -> Arc<VcpuCounters> {
        let mut counted = self.lock();
        let slot = counted.all_counters.len();
        let chains = self.depth.map(|depth| VcpuChains::new(slot, depth));
        let sites = (Arc::clone(&self.sites), Arc::clone(&self.call_sites));
        let instructions = self.instructions.clone();
        let processes = self.processes.as_ref().map(|_| VcpuProcessCounts::new());
        let firsts = FirstAccesses::new(Arc::clone(&self.firsts));
        let counters = VcpuCounters::new(index, sites, instructions, chains, processes, firsts);
        let counters = Arc::new(counters);
        if let Some(values) = &self.values {
            values.add_vcpu(&counters);
        }
        counted.all_counters.push(Arc::clone(&counters));
        counters
    }

    /// Omits the rows by vCPU from now on, because QEMU's callbacks name wrong vCPUs.
    pub fn vcpus_are_mixed(&self) {
        // Relaxed: it publishes no other data. A dump at the end is after it, by QEMU's own locks.
        self.vcpus_mixed.store(true, Ordering::Relaxed);
    }

    /// Returns true if the rows by vCPU are omitted.
    pub(super) fn are_vcpus_mixed(&self) -> bool {
        self.vcpus_mixed.load(Ordering::Relaxed)
    }

    /// The counts of instructions of every kind; `None` if they are not counted, or not by vCPU.
    pub(super) fn instructions(&self) -> Option<&dyn InstructionCounts> {
        self.instructions.as_deref().filter(|_| !self.are_vcpus_mixed())
    }

    /// Begins a window, for a hypercall `begin` of the vCPU `by` that is not counted yet.
    ///
    /// # Errors
    ///
    /// [`WindowError::Open`] if a window with this name is open, [`WindowError::Full`] if there are
    /// too many names. Neither changes anything.
    pub fn begin(&self, name: &str, by: &VcpuCounters) -> Result<(), WindowError> {
        self.begin_after(name, |now| now.add_hypercall(Call::Begin, by))
    }

    /// Begins a window for a request from outside the guest.
    ///
    /// # Errors
    ///
    /// As [`Statistics::begin`].
    pub fn begin_from_outside(&self, name: &str) -> Result<(), WindowError> {
        self.begin_after(name, |_| ())
    }

    fn begin_after(&self, name: &str, count: impl FnOnce(&mut Totals)) -> Result<(), WindowError> {
        let mut counted = self.lock();
        let mut now = counted.now();
        count(&mut now);
        counted.windows.begin(name, &now)
    }

    /// Ends a window, for a hypercall `end` that is not counted yet, or for a request from outside the guest.
    ///
    /// # Errors
    ///
    /// [`WindowError::NotOpen`] if no window with this name is open. Nothing changes then.
    pub fn end(&self, name: &str) -> Result<(), WindowError> {
        let mut counted = self.lock();
        let now = counted.now();
        counted.windows.end(name, &now)
    }

    /// Starts counting anew, for a hypercall `reset` of the vCPU `by` that is not counted yet.
    ///
    /// Closed windows are forgotten; open ones start anew. First accesses stay as they are.
    pub fn reset(&self, by: &VcpuCounters) {
        self.reset_after(|now| now.add_hypercall(Call::Reset, by));
    }

    /// Starts counting anew for a request from outside the guest, as [`Statistics::reset`] does.
    pub fn reset_from_outside(&self) {
        self.reset_after(|_| ());
    }

    fn reset_after(&self, count: impl FnOnce(&mut Totals)) {
        let mut counted = self.lock();
        let mut now = counted.now();
        count(&mut now);
        counted.windows.reset(&now);
        if let Some(values) = &self.values {
            values.reset();
        }
        counted.baseline = now;
    }

    /// Waits until the counters no longer change and their tables agree with each other.
    ///
    /// It is for the end of a machine, when vCPUs were told to stop but may still be counting their
    /// last instruction. The wait is at least 1 ms. It gives up after 5 s, so that QEMU can end; the
    /// dump may then have tables that do not add up.
    pub fn settle(&self) {
        const PAUSE: Duration = Duration::from_millis(1);
        const PAUSES: u32 = 5000;
        let counted = self.lock();
        let mut before = counted.now();
        // Counting takes less than a microsecond, but its thread may not be scheduled for a while.
        for _ in 0..PAUSES {
            std::thread::sleep(PAUSE);
            let now = counted.now();
            if now == before && now.agree() {
                return;
            }
            before = now;
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Counted> {
        // A panic leaves no change half done, so a poisoned lock is still good.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
