//! Where a device's bytes go: a file, or stdout.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::files::{OutputFile, Stream};

/// A file, or stdout.
#[derive(Debug)]
pub(crate) enum Output {
    /// A file: written line by line, for a person who follows it, and in bulk where there are no
    /// lines.
    File(BufWriter<OutputFile>),
    /// Standard output: at once, so that a prompt is seen.
    Stdout(Stream),
}

impl Output {
    /// Standard output.
    pub fn stdout() -> io::Result<Output> {
        Stream::stdout().map(Output::Stdout)
    }

    /// A new file, or an old one that is made empty with the first byte.
    pub fn create(path: &Path) -> io::Result<Output> {
        OutputFile::open(path).map(BufWriter::new).map(Output::File)
    }

    /// The machine starts: old contents go away. (Later there are none.)
    pub fn start(&mut self) -> io::Result<()> {
        match self {
            Output::File(file) => file.get_mut().truncate(),
            Output::Stdout(_) => Ok(()),
        }
    }

    /// Writes what is held back.
    pub fn finish(&mut self) -> io::Result<()> {
        match self {
            Output::File(file) => file.flush(),
            Output::Stdout(_) => Ok(()),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::File(file) => {
                let written = file.write(bytes)?;
                if bytes.contains(&b'\n') {
                    file.flush()?;
                }
                Ok(written)
            }
            Output::Stdout(stdout) => stdout.write(bytes),
        }
    }

    /// Nothing: vm-superio asks for it after each byte, which would make a file slow.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
