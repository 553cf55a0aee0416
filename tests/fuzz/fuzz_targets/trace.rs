#![no_main]
//! Traces: their events become statistics, which are shown.

use fuzz::{MemoryFile, assert_message, assert_text, trace_file};
use libfuzzer_sys::fuzz_target;
use pvio_stats::render;
use pvio_stats::trace::{Trace, statistics};

fuzz_target!(|data: &[u8]| {
    let file = MemoryFile::new(&trace_file(data));
    let mut trace = match Trace::open(file.path()) {
        Ok(trace) => trace,
        Err(error) => return assert_message(&error),
    };
    let (snapshot, lines) = statistics(&mut trace);
    lines.iter().for_each(assert_message);
    assert_text(&render(&snapshot, false));
    snapshot.discrepancies();
});
