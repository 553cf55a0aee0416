//! `break=`: stops the machine after an access, as a debugger's breakpoint does.
//!
//! An access that a breakpoint may want makes its vCPU leave the guest's code after the instruction, before any
//! interrupt. There the value that an `in` has read is known, and whether the instruction has faulted instead.
//! Accesses that no breakpoint wants cost one load.

mod breakpoint;
mod caller;
mod hit;
mod vcpu_breaks;

pub use breakpoint::{BreakError, Breakpoint};
pub use hit::Hit;
pub use vcpu_breaks::VcpuBreaks;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::access_log::CodeNames;
use crate::processes::ProcessFinder;
use crate::qemu::report::say;
use crate::qemu::{AfterInstruction, GuestRam};
use crate::stats::Sites;

/// The most breakpoints at a time.
pub const MAX_BREAKPOINTS: usize = 256;

/// A function that is called with each hit.
type OnHit = Box<dyn Fn(&Hit) + Send + Sync>;

/// A breakpoint that is set.
pub(crate) struct SetBreakpoint {
    /// Its number, never used again.
    pub number: u64,
    /// Its conditions.
    pub breakpoint: Breakpoint,
    /// The accesses that it wanted so far.
    pub hits: AtomicU64,
}

/// The breakpoints of a machine, shared by its vCPUs.
pub struct Breakpoints {
    list: Mutex<List>,
    /// Changes with the list.
    generation: AtomicU64,
    is_any: AtomicBool,
    after: AfterInstruction,
    names: CodeNames,
    sites: Arc<Sites>,
    has_symbols: bool,
    /// `None` if processes cannot be told.
    processes: Option<Arc<ProcessFinder>>,
    /// `None` if the guest's memory cannot be read.
    ram: Option<Arc<GuestRam>>,
    /// True if QEMU reports which vCPU runs.
    vcpus_mixed: AtomicBool,
    on_hit: Mutex<Option<OnHit>>,
    /// True if QEMU reports exceptions, so that a fault discards the access.
    reports_exceptions: bool,
}

#[derive(Default)]
struct List {
    set: Arc<[Arc<SetBreakpoint>]>,
    last_number: u64,
}

/// The services that breakpoints use.
pub struct BreakContext {
    /// Stops QEMU after an instruction.
    pub after: AfterInstruction,
    /// Names of code.
    pub names: CodeNames,
    /// The sites.
    pub sites: Arc<Sites>,
    /// True if code has names at all.
    pub has_symbols: bool,
    /// Finds the process that runs.
    pub processes: Option<Arc<ProcessFinder>>,
    /// The guest's memory, if it can be read.
    pub ram: Option<Arc<GuestRam>>,
    /// True if QEMU reports exceptions.
    pub reports_exceptions: bool,
}

impl Breakpoints {
    /// Without breakpoints, at first.
    pub fn new(context: BreakContext) -> Breakpoints {
        let BreakContext { after, names, sites, has_symbols, processes, ram, reports_exceptions } =
            context;
        Breakpoints {
            list: Mutex::default(),
            generation: AtomicU64::new(0),
            is_any: AtomicBool::new(false),
            after,
            names,
            sites,
            has_symbols,
            processes,
            ram,
            vcpus_mixed: AtomicBool::new(false),
            on_hit: Mutex::default(),
            reports_exceptions,
        }
    }

    /// Leaves the vCPU out of all further hits, because QEMU does not tell vCPUs apart.
    pub fn vcpus_are_mixed(&self) {
        self.vcpus_mixed.store(true, Ordering::Relaxed);
    }

    /// Sets a breakpoint. Returns its number.
    ///
    /// # Errors
    ///
    /// It needs what is not there, or there are too many.
    pub fn set(&self, breakpoint: Breakpoint) -> Result<u64, BreakError> {
        if breakpoint.needs_processes() && self.processes.is_none() {
            return Err(BreakError::NeedsProcesses);
        }
        if breakpoint.needs_symbols() && !self.has_symbols {
            return Err(BreakError::NeedsSymbols);
        }
        let mut list = self.lock();
        if list.set.len() == MAX_BREAKPOINTS {
            return Err(BreakError::TooMany);
        }
        list.last_number += 1;
        let number = list.last_number;
        let new = Arc::new(SetBreakpoint { number, breakpoint, hits: AtomicU64::new(0) });
        list.set = list.set.iter().cloned().chain([new]).collect();
        self.publish(&list);
        Ok(number)
    }

    /// Deletes a breakpoint. Returns false if there is none with this number.
    pub fn delete(&self, number: u64) -> bool {
        let mut list = self.lock();
        let before = list.set.len();
        list.set = list.set.iter().filter(|set| set.number != number).cloned().collect();
        self.publish(&list);
        list.set.len() < before
    }

    /// Number, text and hits of each breakpoint.
    pub fn all(&self) -> Vec<(u64, String, u64)> {
        let set = Arc::clone(&self.lock().set);
        let row = |set: &Arc<SetBreakpoint>| {
            (set.number, set.breakpoint.text().to_owned(), set.hits.load(Ordering::Relaxed))
        };
        set.iter().map(row).collect()
    }

    /// Has `on_hit` called with each hit, on the vCPU's thread, with QEMU's global lock held.
    pub fn on_hit(&self, on_hit: impl Fn(&Hit) + Send + Sync + 'static) {
        *self.on_hit.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(on_hit));
    }

    /// Tells the user and who listens of a hit.
    fn tell(&self, hit: &Hit) {
        say(hit);
        if let Some(on_hit) = &*self.on_hit.lock().unwrap_or_else(PoisonError::into_inner) {
            on_hit(hit);
        }
    }

    fn publish(&self, list: &List) {
        self.is_any.store(!list.set.is_empty(), Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
