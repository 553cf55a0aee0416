//! Counters by key: a hash table whose rows stay where they are.
//!
//! One thread writes without locks and any thread may read at any time, as in [`CounterArray`].
//!
//! [`CounterArray`]: super::counter_array::CounterArray

use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sync::zeroed_slice_box;

/// Maximum number of slots that a search visits. A guest that makes keys collide gets no row for them.
pub(super) const MAX_PROBES: usize = 64;

/// The number of counters in a row.
const COLUMNS: usize = 2;

/// Rows of counters, each with a key. A row takes 20 bytes, and 8 bytes in the table that finds it.
pub(super) struct KeyedCounters {
    /// The binary logarithm of the number of slots. At most half of them are used.
    slots_log2: u32,
    /// For each slot the number of its row plus 1; 0 if it is free. Only the writer uses it.
    slots: Box<[AtomicU32]>,
    keys: Box<[AtomicU32]>,
    counters: Box<[[AtomicU64; COLUMNS]]>,
    /// The number of rows. Stored after a row's key, so that readers find keys in all rows.
    len: AtomicUsize,
}

impl KeyedCounters {
    /// Creates an empty table with room for a number of rows, which is a power of 2.
    pub fn new(rows: usize) -> Self {
        KeyedCounters {
            slots_log2: rows.ilog2() + 1,
            slots: zeroed_slice_box(2 * rows),
            keys: zeroed_slice_box(rows),
            counters: zeroed_slice_box(rows),
            len: AtomicUsize::new(0),
        }
    }

    /// Adds to a row's counter. Only the thread that owns the table may call this.
    #[inline]
    pub fn add(&self, row: usize, column: usize, count: u64) {
        let counter = &self.counters[row][column];
        let sum = counter.load(Ordering::Relaxed).wrapping_add(count);
        counter.store(sum, Ordering::Relaxed);
    }

    /// Finds the row of a key. A new key gets a row if `take_room` returns true.
    ///
    /// Rows stay, so a key that got no row for want of a near slot never gets one. Only the thread that owns the table
    /// may call this.
    #[inline]
    pub fn row(&self, key: u32, take_room: impl FnOnce() -> bool) -> Option<usize> {
        let first = key.wrapping_mul(0x9e37_79b1) >> (u32::BITS - self.slots_log2);
        for probe in 0..MAX_PROBES {
            let slot = &self.slots[(first as usize + probe) % (1 << self.slots_log2)];
            match slot.load(Ordering::Relaxed) {
                0 => return self.make_row(key, slot, take_room),
                number => {
                    let row = number as usize - 1;
                    if self.keys[row].load(Ordering::Relaxed) == key {
                        return Some(row);
                    }
                }
            }
        }
        None
    }

    #[cold]
    fn make_row(
        &self,
        key: u32,
        slot: &AtomicU32,
        take_room: impl FnOnce() -> bool,
    ) -> Option<usize> {
        if !take_room() {
            return None;
        }
        let row = self.len.load(Ordering::Relaxed);
        self.keys[row].store(key, Ordering::Relaxed);
        slot.store(row as u32 + 1, Ordering::Relaxed);
        self.len.store(row + 1, Ordering::Release);
        Some(row)
    }

    /// The keys and counts of all rows, in the order in which they were made.
    pub fn rows(&self) -> impl Iterator<Item = (u32, [i64; COLUMNS])> {
        let rows = 0..self.len.load(Ordering::Acquire);
        rows.map(|row| {
            let counts = self.counters[row].each_ref();
            let counts = counts.map(|counter| counter.load(Ordering::Relaxed) as i64);
            (self.keys[row].load(Ordering::Relaxed), counts)
        })
    }
}

/// Reserves one of at most `most` rows that several tables share. Returns whether there is room.
pub(super) fn take_room(taken: &AtomicUsize, most: usize) -> bool {
    let take = |rows| (rows < most).then_some(rows + 1);
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
}
