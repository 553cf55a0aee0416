//! `latch`: ports that store the last byte written.
//!
//! `device=latch@0xe0-0xe3`: each port holds a byte, which is zero after a reset. Accesses of any
//! size read and write the bytes of their ports.

use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use super::{Device, DeviceKind};

/// The kind `latch`.
pub const LATCH: DeviceKind = DeviceKind {
    name: "latch",
    ports: 4,
    build: |settings| Ok(Box::new(Latch { bytes: vec![0; settings.range.len() as usize] })),
};

struct Latch {
    bytes: Vec<u8>,
}

impl MutDevicePio for Latch {
    fn pio_read(&mut self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        let first = usize::from(offset);
        match data {
            // Most accesses are bytes; a call to memcpy would cost more than the access.
            [byte] => *byte = self.bytes[first],
            _ => data.copy_from_slice(&self.bytes[first..first + data.len()]),
        }
    }

    fn pio_write(&mut self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        let first = usize::from(offset);
        match data {
            &[byte] => self.bytes[first] = byte,
            _ => self.bytes[first..first + data.len()].copy_from_slice(data),
        }
    }
}

impl Device for Latch {
    fn reset(&mut self) {
        self.bytes.fill(0);
    }

    // All elements are equal.
    fn read_string(
        &mut self,
        _base: PioAddress,
        offset: PioAddressOffset,
        size: usize,
        data: &mut [u8],
    ) {
        let first = usize::from(offset);
        match self.bytes[first..first + size] {
            [byte] => data.fill(byte),
            ref bytes => {
                data.chunks_exact_mut(size).for_each(|element| element.copy_from_slice(bytes));
            }
        }
    }

    // Only the last element remains.
    fn write_string(
        &mut self,
        base: PioAddress,
        offset: PioAddressOffset,
        size: usize,
        data: &[u8],
    ) {
        if let Some(last) = data.chunks_exact(size).next_back() {
            self.pio_write(base, offset, last);
        }
    }
}
