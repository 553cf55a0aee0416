//! The atomic types and locks of code whose interleavings `tests/loom` tries. There they are loom's.

pub(crate) use std::sync::{Arc, Mutex, PoisonError, atomic};

pub(crate) use bytemuck::zeroed_slice_box;
