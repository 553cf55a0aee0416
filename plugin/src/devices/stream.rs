//! `stream`: an input file that the guest reads at a port, and an output file that it writes.
//!
//! `device=stream@0x300:in=request.bin:out=answer.bin`; both files are optional.
//!
//! | offset | read | write |
//! | --- | --- | --- |
//! | 0-3 | the next bytes of `in`, lowest first | appended to `out` |
//! | 4-7 | the number of bytes left in `in`, 32 bits (at most 2^32 - 1) | ignored |
//!
//! At the end of `in`, missing bytes read as all ones. `rep insb` and `rep outsb` on the first port
//! move whole files. A machine reset rewinds `in` and continues `out`.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};

use vm_device::MutDevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use super::output::Output;
use super::{Device, DeviceError, DeviceKind, Settings};

/// The kind `stream`.
pub const STREAM: DeviceKind = DeviceKind { name: "stream", ports: 8, build };

/// The offset of the number of bytes left.
const BYTES_LEFT: usize = 4;

fn build(settings: &mut Settings<'_>) -> Result<Box<dyn Device>, DeviceError> {
    let input = settings.take_input("in")?.map(Input::new).transpose();
    let input = input.map_err(DeviceError::other)?;
    let output = settings.take_output("out")?;
    Ok(Box::new(Stream { input, output, failed: None }))
}

struct Input {
    file: BufReader<File>,
    size: u64,
    left: u64,
}

impl Input {
    fn new(file: File) -> io::Result<Input> {
        let size = file.metadata()?.len();
        Ok(Input { file: BufReader::new(file), size, left: size })
    }
}

struct Stream {
    input: Option<Input>,
    output: Option<Output>,
    /// The first error. Nothing is read or written after it.
    failed: Option<io::Error>,
}

impl Stream {
    fn left(&self) -> [u8; 4] {
        let left = self.input.as_ref().map_or(0, |input| input.left);
        u32::try_from(left).unwrap_or(u32::MAX).to_le_bytes()
    }

    /// Fills `data` up to the end of the file.
    fn read(&mut self, data: &mut [u8]) -> io::Result<()> {
        let Some(input) = &mut self.input else { return Ok(()) };
        let count = usize::try_from(input.left).unwrap_or(usize::MAX).min(data.len());
        input.file.read_exact(&mut data[..count])?;
        input.left -= count as u64;
        Ok(())
    }
}

impl MutDevicePio for Stream {
    fn pio_read(&mut self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        let offset = usize::from(offset);
        if offset >= BYTES_LEFT {
            let left = self.left();
            for (byte, value) in data.iter_mut().zip(left.into_iter().skip(offset - BYTES_LEFT)) {
                *byte = value;
            }
        } else if self.failed.is_none() {
            self.failed = self.read(data).err();
        }
    }

    fn pio_write(&mut self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        if let Some(output) = &mut self.output
            && usize::from(offset) < BYTES_LEFT
            && self.failed.is_none()
        {
            self.failed = output.write_all(data).err();
        }
    }
}

impl Device for Stream {
    fn reset(&mut self) {
        if let Some(Err(error)) = self.output.as_mut().map(Output::truncate) {
            self.failed.get_or_insert(error);
        }
        if let Some(input) = &mut self.input {
            input.left = input.size;
            if let Err(error) = input.file.rewind() {
                self.failed.get_or_insert(error);
            }
        }
    }

    // Elements at the data ports are like one long access, also at the end of the file.
    fn read_string(
        &mut self,
        base: PioAddress,
        offset: PioAddressOffset,
        size: usize,
        data: &mut [u8],
    ) {
        match usize::from(offset) < BYTES_LEFT {
            true => self.pio_read(base, offset, data),
            false => {
                data.chunks_exact_mut(size).for_each(|part| self.pio_read(base, offset, part));
            }
        }
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
        let finished = self.output.as_mut().map_or(Ok(()), Output::finish);
        self.failed.take().map_or(finished, Err)
    }
}
