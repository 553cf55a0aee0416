//! The first access to each port, in each direction, at each size: its source and its rank.
//!
//! Each vCPU notes its own, when a counter leaves 0. A snapshot takes the earliest of all vCPUs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pvio_stats::{FirstAccess, PortRow};

use super::counters::{PORT_ROWS, PortColumn, VcpuCounters, port_row};
use super::sites::{MAX_SITES, SiteId, Sites};
use crate::symbols::Names;

/// The source of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// An instruction. `None` if it has no row among the sites.
    Site(Option<SiteId>),
    Hypercall,
}

impl Source {
    const WITHOUT_SITE: u64 = MAX_SITES as u64;
    const HYPERCALL: u64 = MAX_SITES as u64 + 1;

    fn number(self) -> u64 {
        match self {
            Source::Site(site) => site.map_or(Source::WITHOUT_SITE, |site| site.0.into()),
            Source::Hypercall => Source::HYPERCALL,
        }
    }

    fn of_number(number: u64) -> Source {
        match number {
            Source::HYPERCALL => Source::Hypercall,
            Source::WITHOUT_SITE => Source::Site(None),
            site => Source::Site(Some(SiteId(site as u32))),
        }
    }

    /// The column of a port's row that counts its accesses.
    fn column(self) -> PortColumn {
        match self {
            Source::Site(_) => PortColumn::Accesses,
            Source::Hypercall => PortColumn::Hypercall,
        }
    }
}

/// The bits of an entry that have the source; the others have the order.
const SOURCE_BITS: u32 = 24;

/// One vCPU's first accesses. As in `CounterArray`, one thread writes.
pub(super) struct FirstAccesses {
    /// For each port row, by instruction and by hypercall: the order and the source, or 0.
    entries: Box<[[AtomicU64; 2]]>,
    /// The number of entries that all vCPUs have made.
    made: Arc<AtomicU64>,
}

impl FirstAccesses {
    /// `made` is shared by all vCPUs.
    pub fn new(made: Arc<AtomicU64>) -> FirstAccesses {
        const { assert!(Source::HYPERCALL < 1 << SOURCE_BITS) };
        FirstAccesses { entries: bytemuck::zeroed_slice_box(PORT_ROWS), made }
    }

    fn entry(&self, row: usize, column: PortColumn) -> &AtomicU64 {
        &self.entries[row][usize::from(matches!(column, PortColumn::Hypercall))]
    }

    /// Notes the first access to a port. Only the thread that owns the array may call this.
    #[cold]
    pub fn note(&self, row: usize, source: Source) {
        let entry = self.entry(row, source.column());
        // Relaxed: the order is one of the numbers themselves, and one thread writes to an entry.
        if entry.load(Ordering::Relaxed) == 0 {
            let order = self.made.fetch_add(1, Ordering::Relaxed) + 1;
            let order = order.min(u64::MAX >> SOURCE_BITS);
            entry.store(order << SOURCE_BITS | source.number(), Ordering::Relaxed);
        }
    }

    /// Forgets the first access by instruction to a port: it was taken back.
    pub fn forget(&self, row: usize) {
        // Relaxed: as in `note`.
        self.entry(row, PortColumn::Accesses).store(0, Ordering::Relaxed);
    }

    /// The order and the source of the first access to a port.
    fn get(&self, row: usize) -> Option<(u64, Source)> {
        // Relaxed: as in `note`.
        let entries = self.entries[row].each_ref().map(|entry| entry.load(Ordering::Relaxed));
        let first = entries.into_iter().filter(|&entry| entry != 0).min()?;
        let source = first & ((1 << SOURCE_BITS) - 1);
        Some((first >> SOURCE_BITS, Source::of_number(source)))
    }
}

/// Completes rows of ports by their first accesses.
pub(super) fn add_firsts(
    rows: &mut [PortRow],
    all_counters: &[Arc<VcpuCounters>],
    sites: &Sites,
    names: &Names<'_>,
) {
    let mut firsts = BTreeMap::new();
    for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.accesses() > 0) {
        let row = port_row(row.port, row.dir, row.size);
        let first = all_counters.iter().filter_map(|counters| counters.firsts.get(row));
        if let Some((order, source)) = first.min_by_key(|&(order, _)| order) {
            firsts.insert((order, index), source);
        }
    }
    for (rank, ((_, index), source)) in (1..).zip(firsts) {
        let site = match source {
            Source::Site(site) => site,
            Source::Hypercall => None,
        };
        rows[index].first = Some(FirstAccess {
            rank,
            pc: site.map(|site| format!("{:#x}", sites.get(site).key.pc)),
            symbol: site.and_then(|site| Some(sites.name_in(site, names)?.symbol)),
            hypercall: source == Source::Hypercall,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_source_stays_until_it_is_forgotten() {
        let made = Arc::<AtomicU64>::default();
        let firsts = FirstAccesses::new(Arc::clone(&made));
        let last = SiteId(MAX_SITES as u32 - 1);
        for (row, source) in [
            (0, Source::Site(Some(SiteId(0)))),
            (0, Source::Hypercall),
            (7, Source::Hypercall),
            (7, Source::Site(Some(last))),
            (PORT_ROWS - 1, Source::Site(None)),
            (0, Source::Site(Some(SiteId(5)))),
        ] {
            firsts.note(row, source);
        }
        assert_eq!(firsts.get(0), Some((1, Source::Site(Some(SiteId(0))))));
        assert_eq!(firsts.get(7), Some((3, Source::Hypercall)));
        assert_eq!(firsts.get(PORT_ROWS - 1), Some((5, Source::Site(None))));
        assert_eq!(firsts.get(1), None);
        firsts.forget(0);
        assert_eq!(firsts.get(0), Some((2, Source::Hypercall)));
        firsts.note(9, Source::Site(Some(last)));
        assert_eq!(firsts.get(9), Some((6, Source::Site(Some(last)))));
    }
}
