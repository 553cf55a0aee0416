#![no_main]
//! Port I/O through the shim, on simulated hosts: single accesses, strings, mailboxes, batches.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    pvio_guest::fuzzing::shim(data);
    pvio_guest::fuzzing::shim_and_liar(data);
});
