//! One vCPU's counters by site and port, beyond the first port of each site.
//!
//! Most sites access one port only, the first. Its count follows from the site's own, so that the fast
//! path only compares ports. Only the other ports of a site have counters here.
//!
//! One thread writes without locks and any thread may read at any time, as in [`CounterArray`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::counter_array::CounterArray;
use super::sites::{MAX_SITES, SiteId, Sites};
use crate::x86::Port;

/// Maximum number of rows of all vCPUs: 65,536. A Linux boot has 61.
///
/// They take 2 MiB for each vCPU that uses them all, and the table that finds them 512 KiB.
pub const MAX_OTHER_PORTS: usize = 1 << 16;

/// The slots of the hash table. At most half of them are used.
const SLOTS_LOG2: u32 = 17;

/// Maximum number of slots that a search visits. A guest that makes keys collide gets no row for them.
const MAX_PROBES: usize = 64;

/// A site and one of its ports, as the number of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AccessKey(pub u32);

impl AccessKey {
    pub fn new(site: SiteId, port: Port) -> AccessKey {
        const { assert!(MAX_SITES <= 1 << 16) };
        AccessKey(site.0 << 16 | u32::from(port.0))
    }

    pub fn site(self) -> SiteId {
        SiteId(self.0 >> 16)
    }

    pub fn port(self) -> Port {
        Port(self.0 as u16)
    }
}

/// The columns of a row.
#[derive(Clone, Copy)]
pub(super) enum AccessColumn {
    Accesses,
    Unverified,
}

const COLUMNS: usize = 2;

/// The row of `dropped` for sites without a row of their own.
const WITHOUT_SITE: usize = MAX_SITES;

/// Counters by site and port.
pub(super) struct AccessCounters {
    sites: Arc<Sites>,
    /// For each slot the number of its row plus 1; 0 if it is free. Only the writer uses it.
    slots: Box<[AtomicU32]>,
    keys: Box<[AtomicU32]>,
    counters: Box<[[AtomicU64; COLUMNS]]>,
    /// The number of rows. Stored after a row's key, so that readers find keys in all rows.
    len: AtomicUsize,
    /// Counts without a row: by site, and for accesses without a site.
    dropped: CounterArray<COLUMNS>,
}

impl AccessCounters {
    pub fn new(sites: Arc<Sites>) -> AccessCounters {
        AccessCounters {
            sites,
            slots: bytemuck::zeroed_slice_box(1 << SLOTS_LOG2),
            keys: bytemuck::zeroed_slice_box(MAX_OTHER_PORTS),
            counters: bytemuck::zeroed_slice_box(MAX_OTHER_PORTS),
            len: AtomicUsize::new(0),
            dropped: CounterArray::new(MAX_SITES + 1),
        }
    }

    /// Adds to a row, or to the dropped counts of its site. Only the thread that owns the table may call this.
    #[inline(never)]
    pub fn add(&self, site: SiteId, port: Port, column: AccessColumn, count: u64) {
        match self.row(AccessKey::new(site, port)) {
            Some(row) => {
                let counter = &self.counters[row][column as usize];
                let sum = counter.load(Ordering::Relaxed).wrapping_add(count);
                counter.store(sum, Ordering::Relaxed);
            }
            None => self.dropped.add_many(site.0 as usize, column as usize, count),
        }
    }

    /// Adds to the dropped counts of sites without a row, under the conditions of [`AccessCounters::add`].
    #[cold]
    pub fn add_without_site(&self, column: AccessColumn, count: u64) {
        self.dropped.add_many(WITHOUT_SITE, column as usize, count);
    }

    /// Finds the row of a key, or makes it if there is room.
    ///
    /// Rows stay, so a key that got no row for want of a near slot never gets one.
    #[inline]
    fn row(&self, key: AccessKey) -> Option<usize> {
        let first = key.0.wrapping_mul(0x9e37_79b1) >> (u32::BITS - SLOTS_LOG2);
        for probe in 0..MAX_PROBES {
            let slot = &self.slots[(first as usize + probe) % (1 << SLOTS_LOG2)];
            match slot.load(Ordering::Relaxed) {
                0 => return self.make_row(key, slot),
                number => {
                    let row = number as usize - 1;
                    if self.keys[row].load(Ordering::Relaxed) == key.0 {
                        return Some(row);
                    }
                }
            }
        }
        None
    }

    #[cold]
    fn make_row(&self, key: AccessKey, slot: &AtomicU32) -> Option<usize> {
        if !self.sites.take_room_for_port() {
            return None;
        }
        let row = self.len.load(Ordering::Relaxed);
        self.keys[row].store(key.0, Ordering::Relaxed);
        slot.store(row as u32 + 1, Ordering::Relaxed);
        self.len.store(row + 1, Ordering::Release);
        Some(row)
    }

    /// All rows, in the order in which they were made.
    pub fn rows(&self) -> impl Iterator<Item = (AccessKey, [i64; COLUMNS])> {
        let rows = 0..self.len.load(Ordering::Acquire);
        rows.map(|row| {
            let key = AccessKey(self.keys[row].load(Ordering::Relaxed));
            let counts = self.counters[row].each_ref();
            (key, counts.map(|counter| counter.load(Ordering::Relaxed) as i64))
        })
    }

    /// Returns the counts without a row, by site; `None` stands for sites without a row.
    pub fn dropped(&self) -> impl Iterator<Item = (Option<SiteId>, [i64; COLUMNS])> {
        let site = |row: u32| (row as usize != WITHOUT_SITE).then_some(SiteId(row));
        self.dropped.rows().map(move |(row, counts)| (site(row), counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(counters: &AccessCounters) -> Vec<(u32, u16, [i64; COLUMNS])> {
        let rows = counters.rows();
        rows.map(|(key, counts)| (key.site().0, key.port().0, counts)).collect()
    }

    #[test]
    fn each_site_and_port_has_a_row_of_its_own() {
        let counters = AccessCounters::new(Arc::default());
        let max = SiteId(MAX_SITES as u32 - 1);
        for _ in 0..3 {
            counters.add(SiteId(0), Port(0), AccessColumn::Accesses, 1);
            counters.add(SiteId(0), Port(0xffff), AccessColumn::Unverified, 2);
            counters.add(max, Port(0xffff), AccessColumn::Accesses, 1u64.wrapping_neg());
        }
        assert_eq!(
            rows(&counters),
            [(0, 0, [3, 0]), (0, 0xffff, [0, 6]), (0xffff, 0xffff, [-3, 0])]
        );
        assert_eq!(counters.dropped().count(), 0);
    }

    #[test]
    fn all_vcpus_share_the_room_and_what_finds_none_is_counted_by_site() {
        let sites = Arc::<Sites>::default();
        let [one, other] = [0, 1].map(|_| AccessCounters::new(Arc::clone(&sites)));
        let ports = MAX_OTHER_PORTS as u32 / 2;
        for _ in 0..2 {
            for counters in [&one, &other] {
                for port in 0..ports {
                    counters.add(SiteId(5), Port(port as u16), AccessColumn::Accesses, 1);
                }
                counters.add(SiteId(6), Port(0x80), AccessColumn::Accesses, 1);
                counters.add(SiteId(6), Port(0x81), AccessColumn::Unverified, 1);
            }
        }
        let rows = [&one, &other].map(|counters| counters.rows().count());
        assert_eq!(rows.iter().sum::<usize>(), MAX_OTHER_PORTS);
        for counters in [one, other] {
            let counted: i64 = counters.rows().map(|(_, counts)| counts[0] + counts[1]).sum();
            let dropped: i64 = counters.dropped().map(|(_, counts)| counts[0] + counts[1]).sum();
            assert_eq!(counted + dropped, 2 * (i64::from(ports) + 2));
        }
    }

    #[test]
    fn keys_that_collide_get_a_limited_number_of_rows() {
        let counters = AccessCounters::new(Arc::default());
        let first = |key: u32| key.wrapping_mul(0x9e37_79b1) >> (u32::BITS - SLOTS_LOG2);
        let colliding: Vec<u32> = (0..u32::MAX).filter(|&key| first(key) == 7).take(100).collect();
        for &key in &colliding {
            let key = AccessKey(key);
            counters.add(key.site(), key.port(), AccessColumn::Accesses, 1);
        }
        let dropped: i64 = counters.dropped().map(|(_, counts)| counts[0]).sum();
        assert_eq!((counters.rows().count(), dropped), (MAX_PROBES, 100 - MAX_PROBES as i64));
    }
}
