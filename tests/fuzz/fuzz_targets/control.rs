#![no_main]
//! What a client sends to the control socket.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pvio::fuzzing::control_requests(data));
