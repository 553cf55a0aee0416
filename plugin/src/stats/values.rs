//! Values at chosen ports: how often each was read or written, and when first and last.
//!
//! An `in` or `out` is pending from its start until it retires or faults, as in the access log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pvio_stats::{AccessCounts, ValueMoment, ValueRow};

use super::counters::VcpuCounters;
use crate::x86::{AccessSize, Direction, Port, PortRange};

/// Maximum number of values of all ports that get a row: 4,096. They take less than 1 MiB.
pub const MAX_VALUES: usize = 4096;

/// A clock: what it is called in the dump, and how to read its nanoseconds.
pub struct ValueClock {
    /// `guest` or `host`.
    pub name: &'static str,
    /// Reads it.
    pub now: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// The ports whose values are counted.
pub struct ValuePorts {
    /// The ports.
    pub ranges: Vec<PortRange>,
    /// The clock of first and last times.
    pub clock: ValueClock,
}

/// The identity of a row: values with equal keys share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ValueKey {
    port: Port,
    direction: Direction,
    size: AccessSize,
    /// `None` if it is not known.
    value: Option<u32>,
}

/// One access.
#[derive(Clone, Copy, Debug)]
struct Seen {
    key: ValueKey,
    moment: ValueMoment,
    may_fault_unreported: bool,
}

/// The counts of a row.
#[derive(Clone, Copy, Debug)]
struct Row {
    counts: AccessCounts,
    first: ValueMoment,
    last: ValueMoment,
}

#[derive(Clone, Default)]
struct State {
    counters: Vec<Arc<VcpuCounters>>,
    rows: BTreeMap<ValueKey, Row>,
    dropped: AccessCounts,
    /// For each handle of a vCPU, its latest `in` or `out` until it retires or faults.
    pending: Vec<Option<Seen>>,
    /// All accesses that were made before the last reset.
    accesses_before_reset: u64,
}

impl State {
    /// All accesses that were made since the last reset.
    fn accesses(&self) -> u64 {
        let all = self.counters.iter().map(|counters| counters.accesses()).sum::<i64>();
        (all as u64).saturating_sub(self.accesses_before_reset)
    }

    fn count(&mut self, Seen { key, moment, may_fault_unreported }: Seen) {
        let one = match may_fault_unreported {
            true => AccessCounts { accesses: 0, unverified: 1 },
            false => AccessCounts { accesses: 1, unverified: 0 },
        };
        if let Some(row) = self.rows.get_mut(&key) {
            row.counts.accesses += one.accesses;
            row.counts.unverified += one.unverified;
            row.last = moment;
        } else if self.rows.len() < MAX_VALUES {
            self.rows.insert(key, Row { counts: one, first: moment, last: moment });
        } else {
            self.dropped.accesses += one.accesses;
            self.dropped.unverified += one.unverified;
        }
    }
}

/// The values at the chosen ports of one machine.
///
/// Its one lock protects the rows and what is pending. No other lock is taken while it is held.
pub(super) struct Values {
    ports: ValuePorts,
    state: Mutex<State>,
}

impl Values {
    /// Creates an empty table.
    pub fn new(ports: ValuePorts) -> Values {
        Values { ports, state: Mutex::default() }
    }

    pub fn clock(&self) -> &'static str {
        self.ports.clock.name
    }

    /// Adds a vCPU, whose accesses count from now on.
    pub fn add_vcpu(&self, counters: &Arc<VcpuCounters>) {
        self.lock().counters.push(Arc::clone(counters));
    }

    /// Forgets all values. What is pending was counted before.
    pub fn reset(&self) {
        let mut state = self.lock();
        state.accesses_before_reset += state.accesses();
        state.rows.clear();
        state.dropped = AccessCounts::default();
        state.pending.iter_mut().for_each(|pending| *pending = None);
    }

    /// Returns the rows and the counts without a row. Pending accesses are included, as in the other tables.
    pub fn rows(&self) -> (Vec<ValueRow>, AccessCounts) {
        let mut state = self.lock().clone();
        for seen in std::mem::take(&mut state.pending).into_iter().flatten() {
            state.count(seen);
        }
        let rows = state.rows.into_iter().map(|(key, row)| ValueRow {
            port: key.port,
            dir: key.direction,
            size: key.size,
            value: key.value,
            counts: row.counts,
            first: Some(row.first),
            last: Some(row.last),
        });
        (rows.collect(), state.dropped)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One vCPU's handle to the values, for use on the vCPU's thread.
pub struct VcpuValues {
    values: Arc<Values>,
    /// The slot of this handle's pending access.
    place: usize,
}

impl VcpuValues {
    pub(super) fn new(values: Arc<Values>) -> VcpuValues {
        let place = {
            let pending = &mut values.lock().pending;
            pending.push(None);
            pending.len() - 1
        };
        VcpuValues { values, place }
    }

    /// Returns true if an option names the port.
    #[inline]
    pub fn covers(&self, port: Port) -> bool {
        self.values.ports.ranges.iter().any(|range| range.contains(port))
    }

    /// The moment before an access, given the number of accesses before it.
    fn moment(&self, accesses: u64) -> ValueMoment {
        ValueMoment { time_ns: (self.values.ports.clock.now)(), accesses }
    }

    /// Notes a complete access. It is not counted yet, nor are the `earlier` accesses before it.
    pub fn access(
        &self,
        (direction, size): (Direction, AccessSize),
        port: Port,
        value: u32,
        earlier: u64,
    ) {
        let mut state = self.values.lock();
        let key = ValueKey { port, direction, size, value: size.low_bytes(value) };
        let moment = self.moment(state.accesses() + earlier);
        state.count(Seen { key, moment, may_fault_unreported: false });
    }

    /// Starts an `in` or `out`. `value` is what an `out` writes; `None` for an `in`.
    ///
    /// It is counted already, unless `may_fault_unreported` is true.
    pub fn start(
        &self,
        (direction, size): (Direction, AccessSize),
        port: Port,
        value: Option<u32>,
        may_fault_unreported: bool,
    ) {
        let mut state = self.values.lock();
        let value = value.and_then(|value| size.low_bytes(value));
        let key = ValueKey { port, direction, size, value };
        let itself = u64::from(!may_fault_unreported);
        let moment = self.moment(state.accesses().saturating_sub(itself));
        let seen = Seen { key, moment, may_fault_unreported };
        // Nothing reported a fault of the previous access, so it counts as retired.
        if let Some(previous) = state.pending[self.place].replace(seen) {
            state.count(previous);
        }
    }

    /// Counts the pending access, which has retired. An `in` has left its value in EAX.
    pub fn retire(&self, eax: impl FnOnce() -> u32) {
        self.note_value(eax);
        self.retire_noted();
    }

    /// Notes EAX as the value of a pending `in`, which may still turn out to have faulted.
    pub fn note_value(&self, eax: impl FnOnce() -> u32) {
        if let Some(seen) = &mut self.values.lock().pending[self.place] {
            let key = &mut seen.key;
            key.value = key.value.or_else(|| key.size.low_bytes(eax()));
        }
    }

    /// Counts the pending access, which has retired.
    pub fn retire_noted(&self) {
        let mut state = self.values.lock();
        if let Some(seen) = state.pending[self.place].take() {
            state.count(seen);
        }
    }

    /// Drops the pending access: it faulted or a hypervisor intercepted it.
    pub fn discard(&self) {
        self.values.lock().pending[self.place] = None;
    }
}
