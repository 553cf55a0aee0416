//! Accesses that the guest could do without.

use std::collections::BTreeSet;

use pvio_x86::Port;

use crate::stats::Snapshot;
use crate::trace::Timeline;

/// Accesses that move no data, or move it one by one. No access is in two counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Avoidable {
    /// Accesses to ports that no device serves.
    pub unserved: u64,
    /// Reads that followed one of the same port by the same instruction; known only of a trace.
    pub polls: u64,
}

impl Avoidable {
    /// Counts them.
    pub fn of(dump: &Snapshot, timeline: Option<&Timeline>) -> Avoidable {
        let rows = || dump.ports.iter().filter(|row| row.served == Some(false));
        let ports: BTreeSet<Port> = rows().map(|row| row.port).collect();
        let polls = timeline.into_iter().flat_map(Timeline::polls);
        let polls = polls.filter(|(port, _)| !ports.contains(port));
        Avoidable {
            unserved: rows().map(|row| row.accesses()).sum(),
            polls: polls.map(|(_, count)| count).sum(),
        }
    }

    /// All of them.
    pub fn total(self) -> u64 {
        self.unserved + self.polls
    }
}
