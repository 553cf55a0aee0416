//! `recorder`: a latch that logs each element, and whether it arrived alone or as part of a string.
//!
//! `device=recorder@0xe0-0xe3:log=FILE` writes a line for each element in the format of QEMU's trace. The
//! name at the end of the line is `'recorder: alone'` or `'recorder: string'`.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use pvio::devices::{Device, DeviceError, DeviceKind, Settings};
use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

struct Recorder {
    bytes: Vec<u8>,
    log: BufWriter<File>,
}

fn build(settings: &mut Settings<'_>) -> Result<Box<dyn Device>, DeviceError> {
    let path = settings.take("log").ok_or_else(|| DeviceError::other("log=FILE is missing"))?;
    let log = File::create(&path).map_err(|error| DeviceError::other(format!("{path}: {error}")))?;
    let bytes = vec![0; settings.range.len() as usize];
    Ok(Box::new(Recorder { bytes, log: BufWriter::new(log) }))
}

impl Recorder {
    fn note(&mut self, what: &str, base: PioAddress, offset: u16, element: &[u8], how: &str) {
        let mut value = [0; 4];
        value[..element.len()].copy_from_slice(element);
        let (port, value) = (base.0 + offset, u32::from_le_bytes(value));
        let size = element.len();
        writeln!(
            self.log,
            "memory_region_ops_{what} cpu 0 mr 0x0 addr {port:#x} value {value:#x} size {size} \
             name 'recorder: {how}'"
        )
        .expect("the log can be written");
    }

    fn get(&mut self, base: PioAddress, offset: PioAddressOffset, element: &mut [u8], how: &str) {
        let first = usize::from(offset);
        element.copy_from_slice(&self.bytes[first..first + element.len()]);
        self.note("read", base, offset, element, how);
    }

    fn put(&mut self, base: PioAddress, offset: PioAddressOffset, element: &[u8], how: &str) {
        let first = usize::from(offset);
        self.bytes[first..first + element.len()].copy_from_slice(element);
        self.note("write", base, offset, element, how);
    }
}

impl MutDevicePio for Recorder {
    fn pio_read(&mut self, base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        self.get(base, offset, data, "alone");
    }

    fn pio_write(&mut self, base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        self.put(base, offset, data, "alone");
    }
}

impl Device for Recorder {
    fn reset(&mut self) {
        self.bytes.fill(0);
    }

    fn read_string(
        &mut self,
        base: PioAddress,
        offset: PioAddressOffset,
        size: usize,
        data: &mut [u8],
    ) {
        data.chunks_exact_mut(size).for_each(|element| self.get(base, offset, element, "string"));
    }

    fn write_string(
        &mut self,
        base: PioAddress,
        offset: PioAddressOffset,
        size: usize,
        data: &[u8],
    ) {
        data.chunks_exact(size).for_each(|element| self.put(base, offset, element, "string"));
    }

    fn finish(&mut self) -> io::Result<()> {
        self.log.flush()
    }
}

pvio::plugin!(DeviceKind { name: "recorder", ports: 4, build });
