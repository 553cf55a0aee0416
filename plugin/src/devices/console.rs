//! `console`: prints the bytes that the guest writes, to stdout or to a file.
//!
//! `device=console@0xe9` prints to stdout. `device=console@0xe9:file=guest.log` writes to the file and
//! truncates it first. A read returns 0xe9, by which guests detect such a port. With several ports
//! (`console@0xe9-0xec`) all behave the same. An access of 2 or 4 bytes writes as many, lowest first.

use std::io::{self, Write};

use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use super::output::Output;
use super::{Device, DeviceKind};

/// The kind `console`.
pub const CONSOLE: DeviceKind = DeviceKind {
    name: "console",
    ports: 1,
    build: |settings| {
        Ok(Box::new(Console { output: settings.take_output_or_stdout("file")?, failed: None }))
    },
};

/// The value that a guest reads, as from the port 0xe9 of Bochs.
const PRESENT: u8 = 0xe9;

struct Console {
    output: Output,
    /// The first error. Later output is lost.
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
        if let Err(error) = self.output.truncate() {
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
