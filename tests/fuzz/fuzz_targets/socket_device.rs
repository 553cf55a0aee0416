#![no_main]
//! What the program of a socket device sends.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pvio::fuzzing::socket_frames(data));
