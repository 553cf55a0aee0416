//! Accesses by site and port: finding the sites of a port, and adding up accesses.

use std::collections::BTreeMap;

use pvio_x86::{AccessSize, Direction, Port};
use serde::Serialize;

use crate::rows::{Keyed, add_up};
use crate::schema::{AccessCounts, AccessRow, CallAccessRow, CallSiteRow, SiteRow, Tables};

/// The accesses of one site to one port, with the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteAccess {
    /// The site.
    pub site: SiteRow,
    /// The address of the port.
    pub port: Port,
    /// The direction.
    pub dir: Direction,
    /// Bytes in one access.
    pub size: AccessSize,
    /// The accesses of the site to the port.
    #[serde(flatten)]
    pub counts: AccessCounts,
}

/// The accesses of one call site to one port, with the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CallSiteAccess {
    /// The row of `call_sites`.
    pub site: CallSiteRow,
    /// The address of the port.
    pub port: Port,
    /// The direction.
    pub dir: Direction,
    /// Bytes in one access.
    pub size: AccessSize,
    /// Elements moved.
    pub accesses: u64,
}

impl Tables {
    /// The row of `call_sites` of a row of `call_accesses`; `None` if the row names none.
    pub fn call_site_of(&self, row: &CallAccessRow) -> Option<&CallSiteRow> {
        self.call_sites.get(row.site)
    }

    /// The accesses to a port by call site, the most first.
    pub fn call_accesses_to(&self, port: Port) -> Vec<CallSiteAccess> {
        let rows = self.call_accesses.iter().filter(|row| row.port == port);
        let mut rows: Vec<_> = rows.filter_map(|row| self.with_call_site(row)).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.accesses));
        rows
    }

    /// The ports of each row of `call_sites` that accessed any, by its index, the most accesses first.
    pub fn ports_by_call_site(&self) -> BTreeMap<usize, Vec<&CallAccessRow>> {
        let mut by_site: BTreeMap<usize, Vec<&CallAccessRow>> = BTreeMap::new();
        for row in &self.call_accesses {
            by_site.entry(row.site).or_default().push(row);
        }
        for rows in by_site.values_mut() {
            rows.sort_by_key(|row| std::cmp::Reverse(row.accesses));
        }
        by_site
    }

    pub(crate) fn with_call_site(&self, row: &CallAccessRow) -> Option<CallSiteAccess> {
        let CallAccessRow { port, dir, size, accesses, .. } = *row;
        Some(CallSiteAccess { site: self.call_site_of(row)?.clone(), port, dir, size, accesses })
    }

    /// The site of a row of `accesses`; `None` if the row names none.
    pub fn site_of(&self, row: &AccessRow) -> Option<&SiteRow> {
        self.sites.get(row.site)
    }

    /// The accesses to a port by site, the most first.
    pub fn accesses_to(&self, port: Port) -> Vec<SiteAccess> {
        let rows = self.accesses.iter().filter(|row| row.port == port);
        let mut rows: Vec<_> = rows.filter_map(|row| self.with_site(row)).collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.counts.accesses, row.counts.unverified)));
        rows
    }

    /// The ports of each site that accessed any, by the site's index, the most accesses first.
    pub fn ports_by_site(&self) -> BTreeMap<usize, Vec<&AccessRow>> {
        let mut by_site: BTreeMap<usize, Vec<&AccessRow>> = BTreeMap::new();
        for row in &self.accesses {
            by_site.entry(row.site).or_default().push(row);
        }
        for rows in by_site.values_mut() {
            rows.sort_by_key(|row| std::cmp::Reverse((row.counts.accesses, row.counts.unverified)));
        }
        by_site
    }

    pub(crate) fn with_site(&self, row: &AccessRow) -> Option<SiteAccess> {
        let AccessRow { port, dir, size, counts, .. } = *row;
        Some(SiteAccess { site: self.site_of(row)?.clone(), port, dir, size, counts })
    }
}

/// Adds up the accesses of several tables. `sites` are the rows of all of them, added up.
pub(crate) fn merge(parts: &[&Tables], sites: &[SiteRow]) -> Vec<AccessRow> {
    let indexes: BTreeMap<_, usize> =
        sites.iter().enumerate().map(|(index, row)| (row.key(), index)).collect();
    let rows = parts.iter().flat_map(|part| {
        let merged: Vec<Option<&usize>> =
            part.sites.iter().map(|row| indexes.get(&row.key())).collect();
        part.accesses.iter().filter_map(move |row| {
            let &site = (*merged.get(row.site)?)?;
            Some(AccessRow { site, ..row.clone() })
        })
    });
    add_up(rows.collect::<Vec<_>>().iter())
}

/// Adds up the accesses by call site of several tables, as [`merge`].
pub(crate) fn merge_calls(parts: &[&Tables], sites: &[CallSiteRow]) -> Vec<CallAccessRow> {
    let indexes: BTreeMap<_, usize> =
        sites.iter().enumerate().map(|(index, row)| (row.key(), index)).collect();
    let rows = parts.iter().flat_map(|part| {
        part.call_accesses.iter().filter_map(|row| {
            let &site = indexes.get(&part.call_site_of(row)?.key())?;
            Some(CallAccessRow { site, ..row.clone() })
        })
    });
    add_up(rows.collect::<Vec<_>>().iter())
}
