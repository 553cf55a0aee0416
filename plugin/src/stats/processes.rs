//! Accesses by process: a bounded table of processes, and each vCPU's counters for them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::counter_array::CounterArray;
use crate::processes::{Owner, Running};

/// Maximum number of processes that get a row of their own: 16,384.
pub const MAX_PROCESSES: usize = 1 << 14;

/// The row that all processes without a row of their own share.
pub(super) const PROCESS_DROPPED: usize = MAX_PROCESSES;

/// The columns of a process's row of counters.
#[derive(Clone, Copy)]
pub(super) enum ProcessColumn {
    Executions,
    Accesses,
    Unverified,
    /// Those of the accesses that supervisor code made.
    KernelAccesses,
    /// Accesses by hypercall, which the other columns do not have.
    Hypercall,
}

/// The counters of a process that an access adds to.
#[derive(Clone, Copy, Debug)]
pub struct ProcessUse {
    row: u32,
    is_user: bool,
}

impl ProcessUse {
    /// The counters for an access whose process is not known.
    pub const UNKNOWN: ProcessUse = ProcessUse { row: PROCESS_DROPPED as u32, is_user: false };

    /// The number of the process; `None` if it has no row of its own.
    #[inline]
    pub fn number(self) -> Option<u32> {
        (self.row as usize != PROCESS_DROPPED).then_some(self.row)
    }

    /// Returns true if it is user code.
    #[inline]
    pub fn is_user(self) -> bool {
        self.is_user
    }
}

/// All processes that were seen, in the order in which they were found.
#[derive(Default)]
pub struct ProcessTable {
    /// With the number of kernels that ran before.
    rows: boxcar::Vec<(u32, Owner)>,
    numbers: Mutex<HashMap<(u32, Owner), u32>>,
}

impl ProcessTable {
    /// Returns how to count an access, with a new row for a new process. `boot` is the number of kernels that ran before.
    ///
    /// If there are [`MAX_PROCESSES`] already, it is the row that the others share.
    pub fn find(&self, boot: u32, running: Running) -> ProcessUse {
        let key = (boot, running.owner);
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let room = numbers.len() < MAX_PROCESSES;
        let row = match numbers.get(&key) {
            Some(&row) => row,
            None if room => {
                let row = self.rows.push(key) as u32;
                numbers.insert(key, row);
                row
            }
            None => PROCESS_DROPPED as u32,
        };
        ProcessUse { row, is_user: running.is_user }
    }

    /// The process of a row, with the number of kernels that ran before.
    pub(super) fn get(&self, row: usize) -> (u32, Owner) {
        self.rows[row]
    }
}

/// One vCPU's counters by process.
pub struct VcpuProcessCounts(CounterArray<5>);

impl VcpuProcessCounts {
    pub(super) fn new() -> VcpuProcessCounts {
        VcpuProcessCounts(CounterArray::new(MAX_PROCESSES + 1))
    }

    /// Counts executions. A negative number subtracts.
    pub fn executed(&self, process: ProcessUse, count: i64) {
        self.add(process, ProcessColumn::Executions, count);
    }

    /// Counts accesses. A negative number subtracts.
    pub fn accessed(&self, process: ProcessUse, count: i64) {
        self.add(process, ProcessColumn::Accesses, count);
        if !process.is_user {
            self.add(process, ProcessColumn::KernelAccesses, count);
        }
    }

    /// Counts accesses by hypercall.
    pub fn accessed_by_hypercall(&self, process: ProcessUse, count: u64) {
        self.0.add_many(process.row as usize, ProcessColumn::Hypercall as usize, count);
    }

    /// Counts attempts that retired or faulted, if QEMU does not report which. A negative number subtracts.
    pub fn unverified(&self, process: ProcessUse, count: i64) {
        self.add(process, ProcessColumn::Unverified, count);
    }

    fn add(&self, process: ProcessUse, column: ProcessColumn, count: i64) {
        self.0.add_many(process.row as usize, column as usize, count as u64);
    }

    pub(super) fn rows(&self) -> &CounterArray<5> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_beyond_the_limit_share_a_row() {
        let table = ProcessTable::default();
        let find = |number: usize| {
            let owner = Owner::AddressSpace((number as u64) << 12);
            table.find(0, Running { owner, is_user: true }).row as usize
        };
        assert!((0..MAX_PROCESSES).all(|number| find(number) == number));
        assert_eq!(find(MAX_PROCESSES), PROCESS_DROPPED);
        assert_eq!(find(7), 7);
    }

    #[test]
    fn each_kernel_has_processes_of_its_own() {
        let table = ProcessTable::default();
        let running = Running { owner: Owner::Unpaged, is_user: false };
        assert_ne!(table.find(0, running).row, table.find(1, running).row);
        assert_eq!(table.get(1), (1, Owner::Unpaged));
    }
}
