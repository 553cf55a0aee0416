//! What has been counted: counters, a snapshot of them, and the dumps made of a snapshot.
//!
//! Data goes one way: `interception` counts into a [`VcpuCounters`] for each vCPU, totals are taken
//! of all of them, now and where windows begin and end, a [`Snapshot`] is made of those, and JSON and
//! tables of that. Where counts come from is not known here.

mod call;
mod counters;
mod destination;
mod instructions;
mod lines;
mod port_names;
mod rows;
mod sites;
mod snapshot;
mod table;
mod tables;
mod totals;
mod windows;

#[cfg(test)]
mod tests;

pub use call::{Call, Outcome};
pub use counters::{PortCounter, VcpuCounters};
pub use destination::{Destination, DestinationError};
pub use instructions::InstructionCounts;
pub use port_names::port_name;
pub use rows::{
    Counts, FormRow, HypercallRow, Instructions, PortRow, QemuRow, SCHEMA, SectionRow, SiteRow,
    Snapshot, SymbolFileRow, Tables, VcpuRow, WindowRow,
};
pub use sites::{MAX_SITES, SiteId, SiteKey, Sites};
pub use snapshot::SnapshotContext;
pub use tables::render;
pub use windows::{MAX_WINDOW_ROWS, WindowError};

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::qemu::VcpuIndex;
use totals::{Sign, Totals};
use windows::Windows;

/// Everything that is counted in one machine.
#[derive(Default)]
pub struct Statistics {
    /// Where port instructions are.
    pub sites: Arc<Sites>,
    counted: Mutex<Counted>,
    vcpus_mixed: AtomicBool,
    /// Instructions of every kind, where they are counted.
    instructions: Option<Arc<dyn InstructionCounts>>,
}

/// The counters, and what they are read against.
#[derive(Default)]
struct Counted {
    all_counters: Vec<Arc<VcpuCounters>>,
    windows: Windows,
    /// What had been counted at the last reset. Counters cannot be set to zero: each belongs to its
    /// vCPU's thread.
    baseline: Totals,
}

impl Counted {
    /// The counters as they stand.
    fn now(&self) -> Totals {
        Totals::of(&self.all_counters)
    }

    fn since_reset(&self, now: &Totals) -> Totals {
        let mut since = now.clone();
        since.add(&self.baseline, Sign::Minus);
        since
    }
}

/// Windows and resets are the guest's own, by hypercalls. Such a call, like any, is counted when it has
/// been carried out, and is not in what it begins: a window goes from behind the call that begins it
/// to before the call that ends it.
impl Statistics {
    /// Statistics that know of instructions of every kind, too.
    pub fn with_instructions(counts: Option<Arc<dyn InstructionCounts>>) -> Statistics {
        Statistics { instructions: counts, ..Statistics::default() }
    }

    /// The counters of a vCPU, which is to be counted into by one thread at a time.
    pub fn counters(&self, index: VcpuIndex) -> Arc<VcpuCounters> {
        let counters =
            Arc::new(VcpuCounters::new(index, Arc::clone(&self.sites), self.instructions.clone()));
        self.lock().all_counters.push(Arc::clone(&counters));
        counters
    }

    /// Which vCPU did what is not known: leave the rows out.
    pub fn vcpus_are_mixed(&self) {
        self.vcpus_mixed.store(true, Ordering::Relaxed);
    }

    /// Begins a window, by a hypercall of a vCPU's that has yet to be counted.
    pub fn begin(&self, name: &str, by: &VcpuCounters) -> Result<(), WindowError> {
        let mut counted = self.lock();
        let mut now = counted.now();
        now.add_hypercall(Call::Begin, by);
        counted.windows.begin(name, &now)
    }

    /// Ends a window, by a hypercall that has yet to be counted.
    pub fn end(&self, name: &str) -> Result<(), WindowError> {
        let mut counted = self.lock();
        let now = counted.now();
        counted.windows.end(name, &now)
    }

    /// Begins to count anew, by a hypercall of a vCPU's that has yet to be counted: closed windows are
    /// forgotten, and open ones begin here.
    pub fn reset(&self, by: &VcpuCounters) {
        let mut counted = self.lock();
        let mut now = counted.now();
        now.add_hypercall(Call::Reset, by);
        counted.windows.reset(&now);
        counted.baseline = now;
    }

    /// Waits until vCPUs that no longer count have finished with what they were counting when they were
    /// told to stop: until the counters stand still, and the tables agree with each other.
    pub fn settle(&self) {
        const PAUSE: Duration = Duration::from_millis(1);
        let counted = self.lock();
        let mut before = counted.now();
        // None takes a microsecond, but its thread may not run at all for a while.
        for _ in 0..5000 {
            std::thread::sleep(PAUSE);
            let now = counted.now();
            if now == before && now.agree() {
                return;
            }
            before = now;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        // A panic elsewhere leaves it whole.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
