//! `debug-exit`: a write ends QEMU.
//!
//! `device=debug-exit@0xf4`: the low byte written becomes QEMU's exit status unchanged, whereas QEMU's
//! `isa-debug-exit` turns n into 2n + 1. QEMU shuts down in order and writes the dumps. The vCPU may
//! execute a few more instructions before it stops. A read returns zero.

use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use super::{Device, DeviceKind};

/// The kind `debug-exit`.
pub const DEBUG_EXIT: DeviceKind = DeviceKind {
    name: "debug-exit",
    ports: 4,
    build: |settings| Ok(Box::new(DebugExit { exit: settings.exit() })),
};

struct DebugExit {
    exit: Box<dyn Fn(u8) + Send>,
}

impl MutDevicePio for DebugExit {
    fn pio_read(&mut self, _base: PioAddress, _offset: PioAddressOffset, data: &mut [u8]) {
        data.fill(0);
    }

    fn pio_write(&mut self, _base: PioAddress, _offset: PioAddressOffset, data: &[u8]) {
        (self.exit)(data[0]);
    }
}

impl Device for DebugExit {
    fn reset(&mut self) {}

    fn has_state(&self) -> bool {
        false
    }
}
