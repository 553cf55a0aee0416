//! The totals of a dump by name, for conditions and comparisons.

use crate::stats::{FormCounts, Snapshot};

/// A total of a dump.
#[derive(Clone, Copy, Debug)]
pub struct Total {
    /// The name in a condition.
    pub name: &'static str,
    count: fn(&Snapshot) -> Option<u64>,
}

impl Total {
    /// All totals.
    pub const ALL: [Total; 11] = [
        Total { name: "accesses", count: |dump| Some(dump.accesses()) },
        Total { name: "instruction-accesses", count: |dump| Some(dump.instruction_accesses()) },
        Total { name: "hypercall-accesses", count: |dump| Some(dump.hypercall_accesses()) },
        Total { name: "executions", count: |dump| sum(dump, |row| Some(row.executions)) },
        Total { name: "attempts", count: |dump| sum(dump, |row| Some(row.attempts)) },
        Total { name: "bytes", count: |dump| sum(dump, |row| row.bytes) },
        Total { name: "faults", count: |dump| sum(dump, |row| row.faults) },
        Total { name: "exits", count: |dump| sum(dump, |row| row.exits) },
        Total { name: "unverified", count: |dump| sum(dump, |row| Some(row.unverified)) },
        Total {
            name: "hypercalls",
            count: |dump| Some(dump.hypercalls.iter().map(|row| row.count).sum()),
        },
        Total { name: "instructions", count: |dump| dump.instructions.counted() },
    ];

    /// Returns the count in a dump; `None` if the dump does not have it.
    pub fn count(self, dump: &Snapshot) -> Option<u64> {
        (self.count)(dump)
    }

    /// Finds a total by its name.
    pub fn named(name: &str) -> Option<Total> {
        Total::ALL.into_iter().find(|total| total.name == name)
    }
}

fn sum(dump: &Snapshot, column: fn(&FormCounts) -> Option<u64>) -> Option<u64> {
    dump.form_counts().map(|row| column(&row)).sum()
}
