//! What has been counted: counters, a snapshot of them, and the dumps made of a snapshot.
//!
//! Data goes one way: [`crate::interception`] counts into a [`Tally`] for each vCPU, a [`Snapshot`]
//! is taken of all of them, and JSON and tables are made of that. Where counts come from is not
//! known here.

mod call;
mod counters;
mod destination;
mod port_names;
mod sites;
mod snapshot;
mod tables;

pub use call::{Call, Outcome};
pub use counters::Tally;
pub use destination::{Destination, DestinationError};
pub use port_names::port_name;
pub use sites::{MAX_SITES, SiteId, SiteKey, Sites};
pub use snapshot::{
    Counts, FormRow, HypercallRow, PortRow, QemuRow, SCHEMA, SiteRow, Snapshot, Surroundings,
    VcpuRow, WindowRow,
};
pub use tables::render;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::qemu::VcpuIndex;

/// Everything that is counted in one machine.
#[derive(Default)]
pub struct Statistics {
    /// Where port instructions are.
    pub sites: Arc<Sites>,
    tallies: Mutex<Vec<(VcpuIndex, Arc<Tally>)>>,
    vcpus_mixed: AtomicBool,
}

impl Statistics {
    /// The tally of a vCPU, which is to be counted into by one thread at a time.
    pub fn tally(&self, index: VcpuIndex) -> Arc<Tally> {
        let tally = Arc::new(Tally::new(Arc::clone(&self.sites)));
        self.lock().push((index, Arc::clone(&tally)));
        tally
    }

    /// Which vCPU did what is not known: leave the rows out.
    pub fn vcpus_are_mixed(&self) {
        self.vcpus_mixed.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(VcpuIndex, Arc<Tally>)>> {
        // A panic elsewhere leaves the list whole.
        self.tallies.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
