//! Where a device's bytes go: a file, or stdout.

use std::fs::File;
use std::io::{self, BufWriter, Stdout, Write};
use std::path::Path;

/// A file, or stdout.
#[derive(Debug)]
pub enum Output {
    /// A file: written line by line, for a person who follows it, and in bulk where there are no
    /// lines.
    File(BufWriter<File>),
    /// Standard output: at once, so that a prompt is seen.
    Stdout(Stdout),
}

impl Output {
    /// Standard output.
    pub fn stdout() -> Output {
        Output::Stdout(io::stdout())
    }

    /// A new file, or an old one made empty.
    pub fn create(path: &Path) -> io::Result<Output> {
        File::create(path).map(BufWriter::new).map(Output::File)
    }

    /// Writes what is held back.
    pub fn finish(&mut self) -> io::Result<()> {
        match self {
            Output::File(file) => file.flush(),
            Output::Stdout(stdout) => stdout.flush(),
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
            Output::Stdout(stdout) => {
                let written = stdout.write(bytes)?;
                stdout.flush()?;
                Ok(written)
            }
        }
    }

    /// Nothing: vm-superio asks for it after each byte, which would make a file slow.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
