//! `console`: bytes that the guest writes, on stdout or in a file.
//!
//! `device=console@0xe9` prints; `device=console@0xe9:file=guest.log` writes to the file, which is made
//! empty first. A read gives 0xe9, by which guests find such a port. With more ports than one
//! (`console@0xe9-0xec`) all do the same, and an access of 2 or 4 bytes writes as many, lowest first.

use std::io::{self, Write};

use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use super::output::Output;
use super::{Device, DeviceKind};

/// The kind.
pub const CONSOLE: DeviceKind = DeviceKind {
    name: "console",
    ports: 1,
    build: |settings| Ok(Box::new(Console { output: settings.take_output("file")?, failed: None })),
};

/// What a guest reads.
const PRESENT: u8 = 0xe9;

struct Console {
    output: Output,
    /// The first error; what comes after it is lost.
    failed: Option<io::Error>,
}

impl MutDevicePio for Console {
    fn pio_read(&mut self, _base: PioAddress, _offset: PioAddressOffset, data: &mut [u8]) {
        data.fill(PRESENT);
    }

    fn pio_write(&mut self, _base: PioAddress, _offset: PioAddressOffset, data: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.output.write_all(data).err();
        }
    }
}

impl Device for Console {
    fn reset(&mut self) {
        if let Err(error) = self.output.start() {
            self.failed.get_or_insert(error);
        }
    }

    fn has_state(&self) -> bool {
        false
    }

    fn write_string(
        &mut self,
        base: PioAddress,
        offset: PioAddressOffset,
        _size: usize,
        data: &[u8],
    ) {
        self.pio_write(base, offset, data);
    }

    fn finish(&mut self) -> io::Result<()> {
        let finished = self.output.finish();
        self.failed.take().map_or(finished, Err)
    }
}
