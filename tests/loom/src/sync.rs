//! Loom's types under the names of `plugin/src/sync.rs`.

pub(crate) use loom::sync::{Arc, Mutex, atomic};
pub(crate) use std::sync::PoisonError;

use atomic::{AtomicU32, AtomicU64};

/// A type with a value of all zeros.
pub(crate) trait Zero {
    /// Returns that value.
    fn zero() -> Self;
}

impl Zero for AtomicU32 {
    fn zero() -> AtomicU32 {
        AtomicU32::new(0)
    }
}

impl Zero for AtomicU64 {
    fn zero() -> AtomicU64 {
        AtomicU64::new(0)
    }
}

impl<T: Zero, const N: usize> Zero for [T; N] {
    fn zero() -> [T; N] {
        std::array::from_fn(|_| T::zero())
    }
}

/// Makes a slice of zeros.
pub(crate) fn zeroed_slice_box<T: Zero>(len: usize) -> Box<[T]> {
    (0..len).map(|_| T::zero()).collect()
}
