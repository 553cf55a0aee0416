#![no_main]
//! Stacks that are unwound, by arbitrary ORC tables and by frame pointers.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pvio::fuzzing::unwind(data));
