//! Counters in rows, with a note of the rows that were ever counted in.
//!
//! One thread alone adds to them, without a lock or a locked instruction; any thread may read them at
//! any time. Few of the rows are ever used (of 393,216 for ports a Linux boot uses some 200), and
//! whoever reads them finds those without a look at the others.

use std::sync::atomic::{AtomicU64, Ordering};

/// Rows of counters, all zero at first.
pub(super) struct CounterArray<const COLUMNS: usize> {
    /// Laid out in full; the kernel gives memory to the pages that are used.
    counters: Box<[AtomicU64]>,
    /// A bit for each row: it has been counted in.
    touched: Box<[AtomicU64]>,
    /// A bit for each word of `touched`: it is not 0.
    touched_words: Box<[AtomicU64]>,
}

impl<const COLUMNS: usize> CounterArray<COLUMNS> {
    pub fn new(rows: usize) -> Self {
        let words = rows.div_ceil(BITS);
        CounterArray {
            counters: bytemuck::zeroed_slice_box(rows * COLUMNS),
            touched: bytemuck::zeroed_slice_box(words),
            touched_words: bytemuck::zeroed_slice_box(words.div_ceil(BITS)),
        }
    }

    fn counter(&self, row: usize, column: usize) -> &AtomicU64 {
        &self.counters[row * COLUMNS + column]
    }

    /// Adds to a counter.
    #[inline]
    pub fn add_many(&self, row: usize, column: usize, count: u64) {
        let counter = self.counter(row, column);
        let before = counter.load(Ordering::Relaxed);
        if before == 0 {
            self.touch(row);
        }
        counter.store(before.wrapping_add(count), Ordering::Relaxed);
    }

    /// Adds one.
    #[inline]
    pub fn add(&self, row: usize, column: usize) {
        self.add_many(row, column, 1);
    }

    /// Takes one back. What another thread's table has counted can be taken back in this one, which
    /// then is below 0: only the sum of both means something.
    pub fn take_back(&self, row: usize, column: usize) {
        self.add_many(row, column, 1u64.wrapping_neg());
    }

    #[cold]
    fn touch(&self, row: usize) {
        set(&self.touched, row);
        set(&self.touched_words, row / BITS);
    }

    /// The rows that have been counted in, ascending.
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

/// Sets a bit, of which this thread alone sets any.
fn set(words: &[AtomicU64], bit: usize) {
    let word = &words[bit / BITS];
    word.store(word.load(Ordering::Relaxed) | 1 << (bit % BITS), Ordering::Relaxed);
}

/// The bits that are set, ascending.
fn ones(words: &[AtomicU64]) -> impl Iterator<Item = usize> {
    words.iter().enumerate().flat_map(|(place, word)| {
        let mut left = word.load(Ordering::Relaxed);
        std::iter::from_fn(move || {
            let bit = (left != 0).then(|| place * BITS + left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(bit)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_are_all_that_a_look_at_each_finds() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let rows = rng.usize(1..20_000);
            let table = CounterArray::<3>::new(rows);
            for _ in 0..rng.usize(0..100) {
                let (row, column) = (rng.usize(0..rows), rng.usize(0..3));
                match rng.bool() {
                    true => table.add_many(row, column, rng.u64(1..9)),
                    false => table.take_back(row, column),
                }
            }
            let each = (0..rows).map(|row| (row as u32, table.row(row)));
            let not_zero = |(_, counts): &(u32, [i64; 3])| *counts != [0; 3];
            assert!(table.rows().filter(not_zero).eq(each.filter(not_zero)));
        }
    }

    #[test]
    fn the_last_row_of_a_full_word_is_a_row() {
        for rows in [1, 64, 65, 64 * 64, 64 * 64 + 1] {
            let table = CounterArray::<1>::new(rows);
            table.add(rows - 1, 0);
            assert!(table.rows().eq([(rows as u32 - 1, [1])]));
        }
    }
}
