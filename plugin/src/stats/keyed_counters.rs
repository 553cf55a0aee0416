//! Counters by key: a hash table whose rows stay where they are.
//!
//! One thread writes without locks and any thread may read at any time, as in [`CounterArray`].
//!
//! [`CounterArray`]: super::counter_array::CounterArray

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Maximum number of rows: 65,536. They take 2 MiB if all are used, and the table that finds them 512 KiB.
pub(super) const MAX_ROWS: usize = 1 << 16;

/// The slots of the hash table. At most half of them are used.
pub(super) const SLOTS_LOG2: u32 = 17;

/// Maximum number of slots that a search visits. A guest that makes keys collide gets no row for them.
pub(super) const MAX_PROBES: usize = 64;

/// The number of counters in a row.
const COLUMNS: usize = 2;

/// Rows of counters, each with a key.
pub(super) struct KeyedCounters {
    /// For each slot the number of its row plus 1; 0 if it is free. Only the writer uses it.
    slots: Box<[AtomicU32]>,
    keys: Box<[AtomicU32]>,
    counters: Box<[[AtomicU64; COLUMNS]]>,
    /// The number of rows. Stored after a row's key, so that readers find keys in all rows.
    len: AtomicUsize,
}

impl KeyedCounters {
    pub fn new() -> Self {
        KeyedCounters {
            slots: bytemuck::zeroed_slice_box(1 << SLOTS_LOG2),
            keys: bytemuck::zeroed_slice_box(MAX_ROWS),
            counters: bytemuck::zeroed_slice_box(MAX_ROWS),
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
        let first = key.wrapping_mul(0x9e37_79b1) >> (u32::BITS - SLOTS_LOG2);
        for probe in 0..MAX_PROBES {
            let slot = &self.slots[(first as usize + probe) % (1 << SLOTS_LOG2)];
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

/// Reserves one of at most [`MAX_ROWS`] rows that several tables share. Returns whether there is room.
pub(super) fn take_room(taken: &AtomicUsize) -> bool {
    let take = |rows| (rows < MAX_ROWS).then_some(rows + 1);
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
}
