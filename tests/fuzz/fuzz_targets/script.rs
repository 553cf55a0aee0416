#![no_main]
//! Scripts of devices, filters and observers.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pvio::fuzzing::script(data));
