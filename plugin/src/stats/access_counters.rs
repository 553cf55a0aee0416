//! One vCPU's counters by site and port, beyond the first port of each site.
//!
//! Most sites access one port only, the first. Its count follows from the site's own, so that the fast
//! path only compares ports. Only the other ports of a site have counters here.

use std::sync::Arc;

use super::counter_array::CounterArray;
use super::keyed_counters::KeyedCounters;
use super::sites::{MAX_SITES, SiteId, Sites};
use crate::x86::Port;

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

/// Maximum number of rows of all vCPUs: 65,536. A Linux boot has 61.
///
/// They take 2 MiB for each vCPU that uses them all, and the table that finds them 512 KiB.
pub const MAX_OTHER_PORTS: usize = 1 << 16;

/// Counters by site and port.
pub(super) struct AccessCounters {
    sites: Arc<Sites>,
    rows: KeyedCounters,
    /// Counts without a row: by site, and for accesses without a site.
    dropped: CounterArray<COLUMNS>,
}

impl AccessCounters {
    pub fn new(sites: Arc<Sites>) -> AccessCounters {
        let dropped = CounterArray::new(MAX_SITES + 1);
        AccessCounters { sites, rows: KeyedCounters::new(MAX_OTHER_PORTS), dropped }
    }

    /// Adds to a row, or to the dropped counts of its site. Only the thread that owns the table may call this.
    #[inline(never)]
    pub fn add(&self, site: SiteId, port: Port, column: AccessColumn, count: u64) {
        let key = AccessKey::new(site, port);
        match self.rows.row(key.0, || self.sites.take_room_for_port()) {
            Some(row) => self.rows.add(row, column as usize, count),
            None => self.dropped.add_many(site.0 as usize, column as usize, count),
        }
    }

    /// Adds to the dropped counts of sites without a row, under the conditions of [`AccessCounters::add`].
    #[cold]
    pub fn add_without_site(&self, column: AccessColumn, count: u64) {
        self.dropped.add_many(WITHOUT_SITE, column as usize, count);
    }

    /// All rows, in the order in which they were made.
    pub fn rows(&self) -> impl Iterator<Item = (AccessKey, [i64; COLUMNS])> {
        self.rows.rows().map(|(key, counts)| (AccessKey(key), counts))
    }

    /// Returns the counts without a row, by site; `None` stands for sites without a row.
    pub fn dropped(&self) -> impl Iterator<Item = (Option<SiteId>, [i64; COLUMNS])> {
        let site = |row: u32| (row as usize != WITHOUT_SITE).then_some(SiteId(row));
        self.dropped.rows().map(move |(row, counts)| (site(row), counts))
    }
}

#[cfg(test)]
mod tests {
    use super::super::keyed_counters::MAX_PROBES;
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
        let first =
            |key: u32| key.wrapping_mul(0x9e37_79b1) >> (u32::BITS - MAX_OTHER_PORTS.ilog2() - 1);
        let colliding: Vec<u32> = (0..u32::MAX).filter(|&key| first(key) == 7).take(100).collect();
        for &key in &colliding {
            let key = AccessKey(key);
            counters.add(key.site(), key.port(), AccessColumn::Accesses, 1);
        }
        let dropped: i64 = counters.dropped().map(|(_, counts)| counts[0]).sum();
        assert_eq!((counters.rows().count(), dropped), (MAX_PROBES, 100 - MAX_PROBES as i64));
    }
}
