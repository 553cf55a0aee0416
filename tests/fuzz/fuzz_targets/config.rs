#![no_main]
//! Configuration files.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pvio::fuzzing::config(data));
