//! `null` and `ones`: ports with nothing behind them.
//!
//! `device=null@0x300-0x307` reads as zero; `device=ones@0x300-0x307` reads as all ones, as an ISA bus
//! does where no card answers. What is written is lost. Either hides what QEMU has there.

use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use super::{Device, DeviceKind};

/// Reads as zero.
pub const NULL: DeviceKind =
    DeviceKind { name: "null", ports: 1, build: |_| Ok(Box::new(Nothing { reads_as: 0x00 })) };

/// Reads as all ones.
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
