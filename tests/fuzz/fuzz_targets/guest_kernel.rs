#![no_main]
//! A Linux kernel in guest memory, whose tables are damaged.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pvio::fuzzing::guest_kernel(data));
