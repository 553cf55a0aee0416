//! Comparison of single rows.

use crate::accesses::{CallSiteAccess, SiteAccess};
use crate::schema::{
    AccessCounts, CallCallerRow, CallCounts, CallSiteRow, CallerRow, Counts, FormRow, HypercallRow,
    PortRow, SiteRow, UndecidedFormRow, ValueRow,
};

/// A row of a table that can be compared.
pub trait Row: PartialEq {
    /// Accesses to ports; for a hypercall, the number of calls.
    fn accesses(&self) -> u64;

    /// Returns true if another row is equal in the columns that both QEMUs report.
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }

    /// Returns true if all counts of the row are 0.
    fn is_idle(&self) -> bool {
        self.accesses() == 0
    }
}

impl Row for FormRow {
    fn accesses(&self) -> u64 {
        self.accesses
    }

    fn is_same(&self, other: &FormRow) -> bool {
        let of_both = |row: &FormRow| FormRow {
            faults: row.faults.filter(|_| self.faults.is_some() && other.faults.is_some()),
            exits: row.exits.filter(|_| self.exits.is_some() && other.exits.is_some()),
            ..row.clone()
        };
        of_both(self) == of_both(other)
    }

    fn is_idle(&self) -> bool {
        [self.attempts, self.executions, self.accesses, self.unverified] == [0; 4]
    }
}

impl Row for UndecidedFormRow {
    fn accesses(&self) -> u64 {
        self.accesses
    }

    fn is_same(&self, other: &UndecidedFormRow) -> bool {
        let of_both = |row: &UndecidedFormRow| UndecidedFormRow {
            faults: row.faults.filter(|_| self.faults.is_some() && other.faults.is_some()),
            exits: row.exits.filter(|_| self.exits.is_some() && other.exits.is_some()),
            ..row.clone()
        };
        of_both(self) == of_both(other)
    }

    fn is_idle(&self) -> bool {
        [self.attempts, self.executions, self.accesses, self.unverified] == [0; 4]
    }
}

impl Row for PortRow {
    fn accesses(&self) -> u64 {
        PortRow::accesses(self)
    }

    /// Compares without the first access: its address may differ.
    fn is_same(&self, other: &PortRow) -> bool {
        let without_first = |row: &PortRow| PortRow { first: None, ..row.clone() };
        without_first(self) == without_first(other)
    }

    fn is_idle(&self) -> bool {
        [PortRow::accesses(self), self.unverified] == [0; 2]
    }
}

impl Row for SiteRow {
    fn accesses(&self) -> u64 {
        self.counts.accesses
    }

    /// Compares the counts alone: the address may differ.
    fn is_same(&self, other: &SiteRow) -> bool {
        self.counts == other.counts
    }

    fn is_idle(&self) -> bool {
        self.counts == Counts::default()
    }
}

impl Row for SiteAccess {
    fn accesses(&self) -> u64 {
        self.counts.accesses
    }

    /// Compares the counts alone: the site's address may differ.
    fn is_same(&self, other: &SiteAccess) -> bool {
        self.counts == other.counts
    }

    fn is_idle(&self) -> bool {
        self.counts == AccessCounts::default()
    }
}

impl Row for CallerRow {
    fn accesses(&self) -> u64 {
        self.accesses
    }

    /// Compares the counts alone: the addresses may differ.
    fn is_same(&self, other: &CallerRow) -> bool {
        self.accesses == other.accesses
    }
}

impl Row for ValueRow {
    fn accesses(&self) -> u64 {
        self.counts.accesses
    }

    /// Compares the counts alone: times differ in each run.
    fn is_same(&self, other: &ValueRow) -> bool {
        self.counts == other.counts
    }

    fn is_idle(&self) -> bool {
        self.counts == AccessCounts::default()
    }
}

impl Row for HypercallRow {
    fn accesses(&self) -> u64 {
        self.count
    }
}

impl Row for CallSiteRow {
    fn accesses(&self) -> u64 {
        self.counts.accesses
    }

    /// Compares the counts alone: the address may differ.
    fn is_same(&self, other: &CallSiteRow) -> bool {
        self.counts == other.counts
    }

    fn is_idle(&self) -> bool {
        self.counts == CallCounts::default()
    }
}

impl Row for CallSiteAccess {
    fn accesses(&self) -> u64 {
        self.accesses
    }

    /// Compares the counts alone: the site's address may differ.
    fn is_same(&self, other: &CallSiteAccess) -> bool {
        self.accesses == other.accesses
    }
}

impl Row for CallCallerRow {
    fn accesses(&self) -> u64 {
        self.accesses
    }

    /// Compares the counts alone: the addresses may differ.
    fn is_same(&self, other: &CallCallerRow) -> bool {
        self.accesses == other.accesses
    }
}
