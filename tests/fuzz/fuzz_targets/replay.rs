#![no_main]
//! Recordings, and drivers that they are played to.

use fuzz::{MemoryFile, trace_file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&[low, high], data)) = data.split_first_chunk() else { return };
    let len = usize::from(u16::from_le_bytes([low, high])).min(data.len());
    let (accesses, trace) = data.split_at(len);
    let file = MemoryFile::new(&trace_file(trace));
    pvio::fuzzing::recording(file.path(), accesses);
});
