//! One vCPU's counters by call site and call, and by the ports that they access.

use std::sync::Arc;

use pvio_stats::Call;

use super::call_sites::{CallSiteId, CallSites};
use super::counter_array::CounterArray;
use super::keyed_counters::KeyedCounters;
use crate::x86::Port;

/// The number of a call site and a call: a row of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CallRowId(pub u32);

impl CallRowId {
    /// The bits that have the call.
    const CALL_BITS: u32 = 5;

    /// The number of rows.
    pub const COUNT: usize = (CallSiteId::DROPPED.0 as usize + 1) << Self::CALL_BITS;

    pub fn new(site: CallSiteId, call: Call) -> CallRowId {
        const { assert!(Call::ALL.len() <= 1 << Self::CALL_BITS) };
        CallRowId(site.0 << Self::CALL_BITS | call.index() as u32)
    }

    pub fn site(self) -> CallSiteId {
        CallSiteId(self.0 >> Self::CALL_BITS)
    }

    pub fn call(self) -> Call {
        Call::ALL[self.0 as usize % (1 << Self::CALL_BITS)]
    }
}

/// A call site, a call that does port I/O, and a port, as the key of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallAccessKey(pub u32);

impl CallAccessKey {
    pub fn new(site: CallSiteId, call: Call, port: Port) -> CallAccessKey {
        const { assert!(CallSiteId::DROPPED.0 < 1 << 12 && (Call::Outsl.index()) < 1 << 4) };
        CallAccessKey(site.0 << 20 | (call.index() as u32) << 16 | u32::from(port.0))
    }

    pub fn row(self) -> CallRowId {
        CallRowId::new(CallSiteId(self.0 >> 20), Call::ALL[(self.0 >> 16) as usize % 16])
    }

    pub fn port(self) -> Port {
        Port(self.0 as u16)
    }
}

/// Maximum number of rows by call site, call and port, of all vCPUs: 16,384.
///
/// They take 448 KiB for each vCPU that uses them all.
pub const MAX_CALL_ACCESSES: usize = 1 << 14;

/// The columns of a row of a call site and call.
#[derive(Clone, Copy)]
enum CallColumn {
    /// Calls that did not move one element.
    Calls,
    /// Accesses without a row by port.
    Accesses,
    /// Bytes other than those of accesses.
    Bytes,
}

/// The columns of a row by port.
#[derive(Clone, Copy)]
enum AccessColumn {
    /// Calls that moved one element.
    MovedOne,
    /// Elements that other calls moved.
    Elements,
}

/// The counter of calls of one element from one site to one port, found once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallAccessCounter(u32);

/// Counters by call site.
pub(super) struct CallCounters {
    sites: Arc<CallSites>,
    by_call: CounterArray<3>,
    by_port: KeyedCounters,
}

/// Counts by call site: rows of calls, accesses and bytes, by [`CallRowId`]; accesses by [`CallAccessKey`]; and those
/// without a row in the latter.
pub(super) type CallCountRows = (Vec<(u32, [i64; 3])>, Vec<(u32, [i64; 1])>, i64);

impl CallCounters {
    pub fn new(sites: Arc<CallSites>) -> CallCounters {
        let by_call = CounterArray::new(CallRowId::COUNT);
        CallCounters { sites, by_call, by_port: KeyedCounters::new(MAX_CALL_ACCESSES) }
    }

    /// Finds the counter of calls to a port. `None` if there is no room for it.
    pub fn counter(&self, site: CallSiteId, call: Call, port: Port) -> Option<CallAccessCounter> {
        let key = CallAccessKey::new(site, call, port);
        let row = self.by_port.row(key.0, || self.sites.take_room_for_port())?;
        Some(CallAccessCounter(row as u32))
    }

    /// Counts a call that moved one element. Only the thread that owns the counters may call this, and what follows.
    #[inline]
    pub fn moved_one(&self, CallAccessCounter(row): CallAccessCounter) {
        self.by_port.add(row as usize, AccessColumn::MovedOne as usize, 1);
    }

    /// Counts elements of a call that is counted when it ends.
    pub fn moved(&self, site: CallSiteId, call: Call, port: Port, elements: u64) {
        match self.counter(site, call, port) {
            Some(CallAccessCounter(row)) => {
                self.by_port.add(row as usize, AccessColumn::Elements as usize, elements);
            }
            None => self.add(site, call, CallColumn::Accesses, elements),
        }
    }

    /// Counts calls that have ended.
    pub fn ended(&self, site: CallSiteId, call: Call, count: u64) {
        self.add(site, call, CallColumn::Calls, count);
    }

    /// Counts bytes other than those of accesses.
    pub fn moved_bytes(&self, site: CallSiteId, call: Call, bytes: u64) {
        self.add(site, call, CallColumn::Bytes, bytes);
    }

    fn add(&self, site: CallSiteId, call: Call, column: CallColumn, count: u64) {
        let row = CallRowId::new(site, call).0 as usize;
        self.by_call.add_many(row, column as usize, count);
    }

    /// Returns all counts.
    pub fn rows(&self) -> CallCountRows {
        let size = |call: Call| call.port_io().map_or(0, |(_, width)| i64::from(width.bytes()));
        let mut dropped = 0;
        let mut rows = Vec::new();
        for (row, [calls, accesses, bytes]) in self.by_call.rows() {
            dropped += accesses;
            rows.push((row, [calls, accesses, bytes + accesses * size(CallRowId(row).call())]));
        }
        let mut by_port = Vec::new();
        for (key, [moved_one, elements]) in self.by_port.rows() {
            let row = CallAccessKey(key).row();
            let accesses = moved_one + elements;
            rows.push((row.0, [moved_one, accesses, accesses * size(row.call())]));
            match row.site().row() {
                Some(_) => by_port.push((key, [accesses])),
                None => dropped += accesses,
            }
        }
        (rows, by_port, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters() -> CallCounters {
        CallCounters::new(Arc::default())
    }

    #[test]
    fn rows_and_keys_are_decoded() {
        for site in [CallSiteId(0), CallSiteId(77), CallSiteId::DROPPED] {
            for call in Call::ALL {
                let row = CallRowId::new(site, call);
                assert_eq!((row.site(), row.call()), (site, call));
                assert!((row.0 as usize) < CallRowId::COUNT);
                if call.port_io().is_some() {
                    let key = CallAccessKey::new(site, call, Port(0xfffe));
                    assert_eq!((key.row(), key.port()), (row, Port(0xfffe)));
                }
            }
        }
    }

    #[test]
    fn calls_of_a_site_without_a_row_have_no_port() {
        let counters = counters();
        counters.moved(CallSiteId::DROPPED, Call::Outsw, Port(1), 3);
        counters.moved(CallSiteId(2), Call::Outsw, Port(1), 4);
        counters.ended(CallSiteId(2), Call::Outsw, 1);
        let (rows, by_port, dropped) = counters.rows();
        let key = CallAccessKey::new(CallSiteId(2), Call::Outsw, Port(1));
        assert_eq!((by_port, dropped), (vec![(key.0, [4])], 3));
        let row = |site| CallRowId::new(site, Call::Outsw).0;
        let (own, other) = (row(CallSiteId(2)), row(CallSiteId::DROPPED));
        assert_eq!(rows, [(own, [1, 0, 0]), (other, [0, 3, 6]), (own, [0, 4, 8])]);
    }

    #[test]
    fn accesses_without_room_are_counted_by_call() {
        let counters = counters();
        for _ in 0..2 {
            for port in 0..=u16::MAX {
                counters.moved(CallSiteId(0), Call::Insl, Port(port), 1);
                counters.moved(CallSiteId(1), Call::Insl, Port(port), 1);
            }
        }
        let (rows, by_port, dropped) = counters.rows();
        assert_eq!(
            (by_port.len(), counters.counter(CallSiteId(9), Call::Inb, Port(0))),
            (MAX_CALL_ACCESSES, None)
        );
        let accesses: i64 = by_port.iter().map(|(_, [accesses])| accesses).sum();
        assert_eq!(accesses + dropped, 4 << 16);
        let sum =
            rows.iter().fold([0; 3], |sum, (_, row)| std::array::from_fn(|n| sum[n] + row[n]));
        assert_eq!(sum, [0, 4 << 16, 16 << 16]);
    }
}
