//! A device's output: a file or stdout.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::files::{OutputFile, Stream};

/// The output of a device.
#[derive(Debug)]
pub(super) enum Output {
    /// A file, flushed after each line so that a reader can follow it.
    File(BufWriter<OutputFile>),
    /// Standard output, unbuffered so that a prompt without a newline appears.
    Stdout(Stream),
}

impl Output {
    /// Standard output.
    pub fn stdout() -> io::Result<Output> {
        Stream::stdout().map(Output::Stdout)
    }

    /// A file, whose old contents the first write truncates.
    pub fn create(path: &Path) -> io::Result<Output> {
        OutputFile::open(path).map(BufWriter::new).map(Output::File)
    }

    /// Truncates a file's old contents now, when the machine starts.
    pub fn truncate(&mut self) -> io::Result<()> {
        match self {
            Output::File(file) => file.get_mut().truncate(),
            Output::Stdout(_) => Ok(()),
        }
    }

    /// Writes the buffered bytes.
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

    /// Does nothing. vm-superio flushes after each byte, which would slow a file down.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
