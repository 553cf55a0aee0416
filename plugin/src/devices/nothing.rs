//! `null` and `ones`: ports without a device.
//!
//! `device=null@0x300-0x307` reads as zero. `device=ones@0x300-0x307` reads as all ones, like an ISA
//! bus on which no card answers. Writes are lost. Both hide QEMU's device at their ports.

use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use super::{Device, DeviceKind};

/// The kind `null`, which reads as zero.
pub const NULL: DeviceKind =
    DeviceKind { name: "null", ports: 1, build: |_| Ok(Box::new(Nothing { reads_as: 0x00 })) };

/// The kind `ones`, which reads as all ones.
pub const ONES: DeviceKind =
    DeviceKind { name: "ones", ports: 1, build: |_| Ok(Box::new(Nothing { reads_as: 0xff })) };

struct Nothing {
    reads_as: u8,
}

impl MutDevicePio for Nothing {
    fn pio_read(&mut self, _base: PioAddress, _offset: PioAddressOffset, data: &mut [u8]) {
        data.fill(self.reads_as);
    }

    fn pio_write(&mut self, _base: PioAddress, _offset: PioAddressOffset, _data: &[u8]) {}
}

impl Device for Nothing {
    fn reset(&mut self) {}

    fn has_state(&self) -> bool {
        false
    }

    fn read_string(
        &mut self,
        _base: PioAddress,
        _offset: PioAddressOffset,
        _size: usize,
        data: &mut [u8],
    ) {
        data.fill(self.reads_as);
    }

    fn write_string(
        &mut self,
        _base: PioAddress,
        _offset: PioAddressOffset,
        _size: usize,
        _data: &[u8],
    ) {
    }
}
