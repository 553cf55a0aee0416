#![no_main]
//! Options of the command line.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pvio::fuzzing::option_arguments(data));
