//! Output to a pipe or a terminal, whose reader may stop. That must not stop the machine forever: if the
//! reader takes no byte for a while, the stream is abandoned.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::report::say;

/// The time that a write waits for its reader: 10 seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that a pipe accepts at once if `poll` says that it accepts any (`PIPE_BUF`).
const PIECE: usize = 4096;

/// An output stream, which is abandoned after its reader has stopped for too long.
#[derive(Debug)]
pub struct Stream {
    file: File,
    /// The user's name for it.
    name: String,
    given_up: bool,
}

impl Stream {
    /// Opens a device, a pipe, or an open descriptor by its path.
    ///
    /// # Errors
    ///
    /// The path cannot be opened for writing, or it is a pipe without a reader.
    pub fn open(path: &Path) -> io::Result<Stream> {
        let file = open_without_waiting(path)?;
        Ok(Stream { file, name: path.display().to_string(), given_up: false })
    }

    /// Opens standard output.
    ///
    /// # Errors
    ///
    /// Standard output is closed.
    pub fn stdout() -> io::Result<Stream> {
        let stdout = io::stdout();
        // A terminal accepts less at once than `poll` promises. Opened again, it does not block.
        let file = match stdout.is_terminal() {
            true => open_without_waiting(Path::new("/proc/self/fd/1")).or_else(|_| shared(stdout)),
            false => shared(stdout),
        };
        Ok(Stream { file: file?, name: "stdout".into(), given_up: false })
    }
}

fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().append(true).custom_flags(flags).open(path)
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.given_up {
            match write_some(self.file.as_fd(), bytes, PATIENCE) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => self.given_up = true,
                result => return result,
            }
            let (name, seconds) = (&self.name, PATIENCE.as_secs());
            say(format_args!(
                "nobody read {name} for {seconds} seconds: all further output to it is lost"
            ));
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "its reader has stopped"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Duplicates a descriptor. Both share one offset, so that output to either is appended.
///
/// # Errors
///
/// The process cannot open more files.
pub fn shared(stream: impl AsFd) -> io::Result<File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

/// Writes to stderr, and ignores errors. If its reader has stopped for too long, lines are dropped until it
/// reads again; then a line says so.
pub(crate) fn write_stderr(text: &[u8]) {
    static DROPPED: Mutex<bool> = Mutex::new(false);
    let mut dropped = DROPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let stderr = io::stderr().lock();
    let stderr = stderr.as_fd();
    let patience = if *dropped { Duration::ZERO } else { PATIENCE };
    let notice = match *dropped {
        true => format!(
            "pvio: nobody read stderr for {} seconds: lines are missing here\n",
            PATIENCE.as_secs()
        ),
        false => String::new(),
    };
    for part in [notice.as_bytes(), text] {
        let mut rest = part;
        while !rest.is_empty() {
            match write_some(stderr, rest, patience) {
                Ok(written) => rest = &rest[written..],
                Err(error) => {
                    *dropped = error.kind() == io::ErrorKind::TimedOut;
                    return;
                }
            }
        }
    }
    *dropped = false;
}

/// Writes at least one byte.
fn write_some(to: BorrowedFd<'_>, bytes: &[u8], patience: Duration) -> io::Result<usize> {
    let start = Instant::now();
    loop {
        let left = patience.saturating_sub(start.elapsed());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut [PollFd::new(&to, PollFlags::OUT)], Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match rustix::io::write(to, &bytes[..bytes.len().min(PIECE)]) {
            Err(Errno::INTR) => {}
            // Another process has filled it since.
            Err(Errno::AGAIN) if start.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            result => return result.map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pipe_times_out_and_an_emptied_one_does_not() {
        let (mut reader, writer) = io::pipe().unwrap();
        let impatient = |bytes: &[u8]| write_some(writer.as_fd(), bytes, Duration::from_millis(20));
        let mut written = 0;
        let error = loop {
            match impatient(&[b'x'; 5000]) {
                Ok(length) => written += length,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(written >= PIECE);
        let mut read = vec![0; written];
        io::Read::read_exact(&mut reader, &mut read).unwrap();
        assert_eq!(impatient(b"more").unwrap(), 4);
        drop(reader);
        assert_eq!(impatient(b"more").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
