//! Files of the directory that the host shares.
//!
//! A file is read or written from its beginning on. What a guest writes appears on the host when it is complete: after
//! [`Writer::finish`]. Names have at most [`FILE_NAME_MAX`](crate::abi::FILE_NAME_MAX) bytes; `/` separates directories,
//! which must exist. Without a host, each function returns [`CallError::Unanswered`], and nothing changes.
//!
//! ```
//! use pvio_guest::files::{Reader, Writer};
//! use pvio_guest::CallError;
//!
//! fn copy() -> Result<(), CallError> {
//!     let mut reader = Reader::open("input");
//!     let mut writer = Writer::begin("output")?;
//!     let mut buffer = [0; 512];
//!     loop {
//!         match reader.read(&mut buffer)? {
//!             0 => return writer.finish(),
//!             count => writer.write(&buffer[..count])?,
//!         }
//!     }
//! }
//!
//! // A process on Linux, without a host:
//! assert_eq!(copy(), Err(CallError::Unanswered));
//! ```

use crate::abi::{CallWord, FileRequest, call};
use crate::error::CallError;
use crate::machine::{Machine, Real};
use crate::touch;

/// Number of tries for memory that the host cannot use, as for texts.
const TRIES: u32 = 8;

/// A file of the host that is read.
#[derive(Debug)]
pub struct Reader<'n>(File<'n>);

impl<'n> Reader<'n> {
    /// Names a file. The host is first asked when it is read.
    pub fn open(name: &'n str) -> Reader<'n> {
        Reader(File::new(name))
    }

    /// Reads the next bytes. Returns their number: fewer than the buffer has at the end of the file, and then 0.
    ///
    /// # Errors
    ///
    /// The host's answer. [`CallError::Stale`]: the file has changed since its first part was read.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, CallError> {
        self.0.read(&Real, buffer)
    }
}

/// A file of the host that is written.
#[derive(Debug)]
pub struct Writer<'n>(File<'n>);

impl<'n> Writer<'n> {
    /// Begins a file, which has its name only after [`Writer::finish`].
    ///
    /// # Errors
    ///
    /// The host's answer.
    pub fn begin(name: &'n str) -> Result<Writer<'n>, CallError> {
        let mut file = File::new(name);
        file.write(&Real, &[])?;
        Ok(Writer(file))
    }

    /// Appends bytes.
    ///
    /// # Errors
    ///
    /// The host's answer. [`CallError::Stale`]: the machine was reset, or is a snapshot. Begin again.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        self.0.write(&Real, bytes)
    }

    /// Gives the file its name.
    ///
    /// # Errors
    ///
    /// The host's answer. [`CallError::Exists`]: another file has the name by now.
    pub fn finish(mut self) -> Result<(), CallError> {
        self.0.finish(&Real)
    }
}

/// A file at an offset.
#[derive(Debug)]
pub(crate) struct File<'n> {
    name: &'n str,
    request: FileRequest,
}

impl<'n> File<'n> {
    pub(crate) fn new(name: &'n str) -> File<'n> {
        let request = FileRequest {
            name: name.as_ptr().expose_provenance() as u64,
            // A name of more bytes than that is too long as well.
            name_len: name.len().try_into().unwrap_or(u32::MAX),
            ..FileRequest::default()
        };
        File { name, request }
    }

    pub(crate) fn read(
        &mut self,
        machine: &impl Machine,
        buffer: &mut [u8],
    ) -> Result<usize, CallError> {
        let (size, start) = (buffer.len(), buffer.as_mut_ptr());
        let touch = |offset: usize| {
            // SAFETY: the byte is in the buffer, which is writable.
            unsafe { touch::for_writing(start.add(offset)) }
        };
        // SAFETY: the call writes to the buffer and to the request alone.
        unsafe { self.run(machine, call::FILE_READ, start.expose_provenance(), size, touch)? };
        Ok(size - self.request.count as usize)
    }

    pub(crate) fn write(&mut self, machine: &impl Machine, bytes: &[u8]) -> Result<(), CallError> {
        let start = bytes.as_ptr();
        let touch = |offset: usize| {
            // SAFETY: the byte is in the slice.
            unsafe { touch::for_reading(start.add(offset)) }
        };
        let (address, size) = (start.expose_provenance(), bytes.len());
        // SAFETY: the call reads the bytes, and writes to the request alone.
        unsafe { self.run(machine, call::FILE_WRITE, address, size, touch) }
    }

    pub(crate) fn finish(&mut self, machine: &impl Machine) -> Result<(), CallError> {
        // SAFETY: the call uses no buffer, and writes to the request alone.
        unsafe { self.run(machine, call::FILE_FINISH, 0, 0, |_| {}) }
    }

    /// Repeats a call until no byte is left, or the file ends. `touch` touches a byte of the buffer.
    ///
    /// # Safety
    ///
    /// The call must be allowed to do what it does with `size` bytes at `address`.
    unsafe fn run(
        &mut self,
        machine: &impl Machine,
        call: u8,
        address: usize,
        size: usize,
        touch: impl Fn(usize),
    ) -> Result<(), CallError> {
        (self.request.address, self.request.count) = (address as u64, size as u64);
        let mut tries = 0;
        loop {
            let before = self.request.count;
            let request = &raw mut self.request;
            let (mut edx, mut ecx) = (request.expose_provenance(), 0);
            // SAFETY: the caller answers for the call; name and request are this file's own.
            let status = unsafe { machine.call(CallWord::new(call, 0, 0), &mut edx, &mut ecx) };
            let left = self.request.count;
            match CallError::check(status) {
                Ok(data) if left == 0 || left == before || data != 0 => return Ok(()),
                Ok(_) => tries = 0,
                Err(CallError::Page) if tries < TRIES => {
                    tries += 1;
                    // SAFETY: the request is this file's own, and the name is a string.
                    unsafe { touch::for_writing((&raw mut self.request).cast()) };
                    for byte in
                        self.name.as_bytes().first().into_iter().chain(self.name.as_bytes().last())
                    {
                        // SAFETY: the byte is part of the name.
                        unsafe { touch::for_reading(byte) };
                    }
                    if left > 0 {
                        touch(size - left as usize);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::abi::status;
    use crate::simulation::Simulation;

    fn read_all(machine: &Simulation, name: &str, part: usize) -> Result<Vec<u8>, CallError> {
        let (mut file, mut bytes, mut buffer) = (File::new(name), Vec::new(), vec![0; part]);
        loop {
            match file.read(machine, &mut buffer)? {
                0 => return Ok(bytes),
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn write_all(machine: &Simulation, name: &str, bytes: &[u8]) -> Result<(), CallError> {
        let mut file = File::new(name);
        file.write(machine, &[])?;
        bytes.chunks(5000).try_for_each(|part| file.write(machine, part))?;
        file.finish(machine)
    }

    #[test]
    fn files_are_written_and_read_in_parts() {
        let pages = Simulation { pages: true, ..Simulation::host() };
        for machine in
            [Simulation::host(), pages, Simulation { elements_max: 7, ..Simulation::host() }]
        {
            for size in [0, 1, 4095, 4097, 70_000] {
                let bytes: Vec<u8> = (0..size).map(|index| (index * 7 % 251) as u8).collect();
                let name = std::format!("file{size}");
                write_all(&machine, &name, &bytes).unwrap();
                assert_eq!(write_all(&machine, &name, b"other"), Err(CallError::Exists));
                for part in [1 << 10, 70_000] {
                    assert!(read_all(&machine, &name, part).unwrap() == bytes, "{size}");
                }
            }
            assert_eq!(read_all(&machine, "none", 1), Err(CallError::Missing));
        }
    }

    #[test]
    fn errors_are_the_hosts() {
        let mut file = File::new("file");
        assert_eq!(file.write(&Simulation::default(), b"x"), Err(CallError::Unanswered));
        let refused = Simulation { refusal: Some(status::DENIED), ..Simulation::host() };
        assert_eq!(file.write(&refused, b"x"), Err(CallError::Denied));
        let stubborn = Simulation { pages: true, stubborn: true, ..Simulation::host() };
        assert_eq!(file.write(&stubborn, b"x"), Err(CallError::Page));
        let host = Simulation::host();
        assert_eq!(file.finish(&host), Err(CallError::Stale));
        file.write(&host, b"x").unwrap();
        host.forget_unfinished_files();
        assert_eq!(file.write(&host, b"y"), Err(CallError::Stale));
    }
}
