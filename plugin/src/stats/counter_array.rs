//! A two-dimensional array of counters that knows which of its rows are in use.
//!
//! One thread writes, without locks or atomic read-modify-write instructions; any thread may read at
//! any time. Few rows are ever used: of 524,288 for ports, a Linux boot uses about 200. Bitmaps let
//! readers find these without visiting the rest.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::zeroed_slice_box;

/// Rows of counters, initially zero.
pub(super) struct CounterArray<const COLUMNS: usize> {
    /// All rows. The kernel provides memory only for the pages that are written to.
    counters: Box<[AtomicU64]>,
    /// A bit for each row that was written to.
    touched: Box<[AtomicU64]>,
    /// A bit for each word of `touched` that is not 0.
    touched_words: Box<[AtomicU64]>,
}

impl<const COLUMNS: usize> CounterArray<COLUMNS> {
    pub fn new(rows: usize) -> Self {
        let words = rows.div_ceil(BITS);
        CounterArray {
            counters: zeroed_slice_box(rows * COLUMNS),
            touched: zeroed_slice_box(words),
            touched_words: zeroed_slice_box(words.div_ceil(BITS)),
        }
    }

    fn counter(&self, row: usize, column: usize) -> &AtomicU64 {
        &self.counters[row * COLUMNS + column]
    }

    /// Adds to a counter. Only the thread that owns the array may call this.
    #[inline]
    pub fn add_many(&self, row: usize, column: usize, count: u64) {
        self.add_many_or(row, column, count, || {});
    }

    /// The same as for [`CounterArray::add_many`]; calls `was_zero` if the counter was 0.
    #[inline]
    pub fn add_many_or(&self, row: usize, column: usize, count: u64, was_zero: impl FnOnce()) {
        let counter = self.counter(row, column);
        // Relaxed: one thread writes, and each counter is read for itself. A dump while vCPUs run may miss the
        // latest counts, or a row that is touched just now; one at the end may not, since the vCPUs have stopped.
        let before = counter.load(Ordering::Relaxed);
        if before == 0 {
            self.touch(row);
            was_zero();
        }
        counter.store(before.wrapping_add(count), Ordering::Relaxed);
    }

    /// Adds 1, as [`CounterArray::add_many`].
    #[inline]
    pub fn add(&self, row: usize, column: usize) {
        self.add_many(row, column, 1);
    }

    /// Subtracts 1, as [`CounterArray::add_many`].
    ///
    /// A vCPU may take back what another vCPU's array counted. Its own counter is then negative, and
    /// only the sum of both is meaningful.
    pub fn take_back(&self, row: usize, column: usize) {
        self.add_many(row, column, 1u64.wrapping_neg());
    }

    /// Returns true if a counter is 0.
    pub fn is_zero(&self, row: usize, column: usize) -> bool {
        // Relaxed: as in `add_many_or`.
        self.counter(row, column).load(Ordering::Relaxed) == 0
    }

    #[cold]
    fn touch(&self, row: usize) {
        set(&self.touched, row);
        set(&self.touched_words, row / BITS);
    }

    /// The rows that were written to, by number, ascending.
    pub fn rows(&self) -> impl Iterator<Item = (u32, [i64; COLUMNS])> {
        let words = ones(&self.touched_words);
        let touched = words
            .flat_map(|word| ones(&self.touched[word..=word]).map(move |bit| word * BITS + bit));
        touched.map(|row| (row as u32, self.row(row)))
    }

    fn row(&self, row: usize) -> [i64; COLUMNS] {
        std::array::from_fn(|column| self.counter(row, column).load(Ordering::Relaxed) as i64)
    }
}

const BITS: usize = u64::BITS as usize;

/// Sets a bit. Only the thread that owns the array may call this.
fn set(words: &[AtomicU64], bit: usize) {
    let word = &words[bit / BITS];
    word.store(word.load(Ordering::Relaxed) | 1 << (bit % BITS), Ordering::Relaxed);
}

/// The indexes of the bits that are set, ascending.
fn ones(words: &[AtomicU64]) -> impl Iterator<Item = usize> {
    words.iter().enumerate().flat_map(|(index, word)| {
        let mut rest = word.load(Ordering::Relaxed);
        std::iter::from_fn(move || {
            let bit = (rest != 0).then(|| index * BITS + rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(bit)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_finds_every_row_in_use() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let rows = rng.usize(1..20_000);
            let array = CounterArray::<3>::new(rows);
            for _ in 0..rng.usize(0..100) {
                let (row, column) = (rng.usize(0..rows), rng.usize(0..3));
                match rng.bool() {
                    true => array.add_many(row, column, rng.u64(1..9)),
                    false => array.take_back(row, column),
                }
            }
            let each = (0..rows).map(|row| (row as u32, array.row(row)));
            let not_zero = |(_, counts): &(u32, [i64; 3])| *counts != [0; 3];
            assert!(array.rows().filter(not_zero).eq(each.filter(not_zero)));
        }
    }

    #[test]
    fn counts_pass_32_bits_and_reach_63() {
        let array = CounterArray::<1>::new(2);
        for (times, step) in [(4, 1 << 30), (1, (1 << 32) - 1), (3, 1)] {
            (0..times).for_each(|_| array.add_many(0, 0, step));
        }
        assert_eq!(array.row(0), [(1 << 33) + 2]);
        // Ten milliard accesses by strings, whose restart takes one back.
        (0..10_000).for_each(|_| array.add_many(1, 0, 1_000_000));
        array.take_back(1, 0);
        array.add(1, 0);
        assert_eq!(array.row(1), [10_000_000_000]);
        array.add_many(1, 0, i64::MAX as u64 - 10_000_000_000);
        assert_eq!(array.row(1), [i64::MAX]);
    }

    #[test]
    fn the_last_row_of_a_word_is_found() {
        for rows in [1, 64, 65, 64 * 64, 64 * 64 + 1] {
            let array = CounterArray::<1>::new(rows);
            array.add(rows - 1, 0);
            assert!(array.rows().eq([(rows as u32 - 1, [1])]));
        }
    }
}
