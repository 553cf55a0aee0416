//! The counts at one moment. Making rows from them takes longer, and is done later.

use std::sync::Arc;

use pvio_stats::{AccessCounts, ValueRow};

use super::counters::VcpuCounters;
use super::statistics::Statistics;
use super::totals::Totals;
use super::windows::Window;

/// The counts of one moment.
pub struct Moment {
    pub(super) all_counters: Vec<Arc<VcpuCounters>>,
    /// Since the last reset.
    pub(super) totals: Totals,
    pub(super) windows: Vec<Window>,
    pub(super) value_rows: Vec<ValueRow>,
    pub(super) values_dropped: AccessCounts,
}

impl Moment {
    /// Returns true if nothing was counted since an earlier moment, and the tables add up to the same sums.
    pub fn is_still(&self, earlier: &Moment) -> bool {
        self.totals == earlier.totals && self.totals.agree()
    }
}

impl Statistics {
    /// The names of the windows that are open.
    pub fn open_windows(&self) -> Vec<String> {
        self.lock().windows.open_names()
    }

    /// Reads all counts. They agree with each other if no vCPU counts meanwhile.
    pub fn read(&self) -> Moment {
        let counted = self.lock();
        let now = counted.now();
        let values = self.values.as_ref();
        let (value_rows, values_dropped) = values.map(|values| values.rows()).unwrap_or_default();
        Moment {
            all_counters: counted.all_counters.clone(),
            totals: counted.since_reset(&now),
            windows: counted.windows.so_far(&now),
            value_rows,
            values_dropped,
        }
    }
}
