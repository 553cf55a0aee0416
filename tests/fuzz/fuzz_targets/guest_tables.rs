#![no_main]
//! Tables of a Linux kernel in guest memory: VMCOREINFO, kallsyms, BTF, modules, ORC.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pvio::fuzzing::guest_tables(data));
