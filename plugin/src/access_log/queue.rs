//! The records between the vCPUs and the writer thread.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::record::Record;

/// The number of records at which the writer thread is woken early.
pub(super) const BATCH: usize = 16 * 1024;

/// The number of records at which vCPUs wait for the writer thread.
const MOST: usize = 5 * BATCH;

/// Records in the order in which vCPUs pushed them. Its lock is held only while records are moved.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Signals that there are records, or many records, or that the queue is closed.
    ready: Condvar,
    /// Signals that there is room for records.
    room: Condvar,
}

#[derive(Default)]
struct State {
    records: Vec<Record>,
    /// For each handle of a vCPU, its latest `in` or `out` until it retires or faults.
    pending: Vec<Option<Record>>,
    /// True if the queue accepts no more records.
    is_closed: bool,
}

impl Queue {
    /// Adds a record. Waits while the queue is full. Drops the record if the queue is closed.
    pub fn push(&self, record: Record) {
        let mut state = self.lock();
        if state.records.len() >= MOST {
            let is_full = |state: &mut State| state.records.len() >= MOST && !state.is_closed;
            state = self.room.wait_while(state, is_full).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_closed {
            return;
        }
        state.records.push(record);
        if matches!(state.records.len(), 1 | BATCH) {
            self.ready.notify_one();
        }
    }

    /// Waits for a first record, then up to `time` for more, and swaps them into `empty`. Returns false if the
    /// queue is closed and empty.
    pub fn take(&self, empty: &mut Vec<Record>, time: Duration) -> bool {
        let is_empty = |state: &mut State| state.records.is_empty() && !state.is_closed;
        let is_short = |state: &mut State| state.records.len() < BATCH && !state.is_closed;
        let state = self.ready.wait_while(self.lock(), is_empty);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let waited = self.ready.wait_timeout_while(state, time, is_short);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.records, empty);
        self.room.notify_all();
        !(empty.is_empty() && state.is_closed)
    }

    /// Closes the queue. Records in it can still be taken.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.ready.notify_one();
        self.room.notify_all();
    }

    /// Adds a slot for a pending record. Returns its index.
    pub fn add_pending(&self) -> usize {
        let mut state = self.lock();
        state.pending.push(None);
        state.pending.len() - 1
    }

    /// Replaces the pending record in a slot.
    pub fn replace_pending(&self, place: usize, record: Option<Record>) -> Option<Record> {
        std::mem::replace(&mut self.lock().pending[place], record)
    }

    /// Changes the pending record in a slot, if there is one.
    pub fn change_pending(&self, place: usize, change: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.lock().pending[place] {
            change(record);
        }
    }

    /// Takes all pending records.
    pub fn take_pending(&self) -> Vec<Record> {
        self.lock().pending.iter_mut().filter_map(Option::take).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
