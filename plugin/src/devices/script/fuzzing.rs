//! An arbitrary script: loaded, and called as a guest's accesses call it.

use std::sync::Arc;

use vm_device::MutDevicePio;
use vm_device::bus::PioAddress;

use super::program::Program;
use super::{Script, filter, observe};
use crate::devices::script::host::Host;
use crate::devices::script::source::Source;
use crate::fuzzing::assert_message;

/// Far fewer than a user's scripts have, so that an endless loop ends soon.
const OPERATIONS: u64 = 500;

/// Loads a script as a device, and accesses it. A script of some lengths is a filter or an observer, and is only loaded.
///
/// To make an engine takes longer than all the rest, so each script gets one.
pub fn script(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let host = || Arc::new(Host::new("fuzzed".to_owned(), None, None, None));
    let functions = match text.len() % 8 {
        0 => Some(filter::FUNCTIONS),
        1 => Some(observe::FUNCTIONS),
        _ => None,
    };
    if let Some(functions) = functions {
        let program = Program::load("fuzzed.rhai", text, OPERATIONS, &host(), functions, |_| {});
        if let Err(error) = program {
            assert_message(&error);
        }
        return;
    }
    let source = Source::new("fuzzed.rhai".to_owned(), OPERATIONS);
    let mut device = match Script::new(source, text, host()) {
        Ok(device) => device,
        Err(error) => return assert_message(&error),
    };
    // What it prints would be the output of the fuzzer.
    device.running.host().connect(false);
    for (offset, size) in [(0, 1), (1, 2), (7, 4)] {
        let mut data = [0xff; 4];
        device.pio_read(PioAddress(0x300), offset, &mut data[..size]);
        device.pio_write(PioAddress(0x300), offset, &data[..size]);
    }
    if let Some(mistake) = device.running.first_mistake() {
        assert_message(mistake);
    }
}
