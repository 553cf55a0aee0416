//! The guest's log, on stderr or in a file: `[    0.004211] info: text`.
//!
//! The text is untrusted. Control characters and bytes that are not UTF-8 are escaped.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pvio_guest::abi::level;

use crate::files::OutputFile;
use crate::qemu::report::show;
use crate::untrusted_text::escape;

/// The severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(&'static str);

impl Level {
    /// The level with this number in the ABI ([`level`]).
    pub fn from_number(number: u8) -> Option<Level> {
        Some(Level(match number {
            level::ERROR => "error",
            level::WARNING => "warning",
            level::INFO => "info",
            level::DEBUG => "debug",
            _ => return None,
        }))
    }
}

/// The guest's log.
pub struct GuestLog {
    opened: Instant,
    /// `None` means stderr.
    file: Option<Mutex<LogFile>>,
}

struct LogFile {
    file: OutputFile,
    /// The first error, reported at exit. The guest sees each one.
    failed: Option<io::Error>,
}

impl GuestLog {
    /// Creates a log on stderr.
    pub fn to_stderr() -> GuestLog {
        GuestLog { opened: Instant::now(), file: None }
    }

    /// Creates a log in a file, which is truncated by the first line or by [`GuestLog::finish`].
    pub fn to_file(file: OutputFile) -> GuestLog {
        let file = LogFile { file, failed: None };
        GuestLog { opened: Instant::now(), file: Some(Mutex::new(file)) }
    }

    /// Writes a line.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn line(&self, level: Level, text: &[u8]) -> io::Result<()> {
        let elapsed = self.opened.elapsed();
        let (seconds, micros) = (elapsed.as_secs(), elapsed.subsec_micros());
        let line = format!("[{seconds:>5}.{micros:06}] {}: {}\n", level.0, escape(text));
        match &self.file {
            Some(file) => {
                let LogFile { file, failed } = &mut *lock(file);
                let Err(error) = file.write_all(line.as_bytes()) else { return Ok(()) };
                let kind = error.kind();
                failed.get_or_insert(error);
                Err(kind.into())
            }
            None => {
                show(&line);
                Ok(())
            }
        }
    }

    /// Truncates a file without lines when the machine ends.
    ///
    /// # Errors
    ///
    /// The first error, now or earlier: lines are missing.
    pub fn finish(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let LogFile { file, failed } = &mut *lock(file);
        failed.take().map_or_else(|| file.flush(), Err)
    }
}

fn lock(file: &Mutex<LogFile>) -> MutexGuard<'_, LogFile> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_carry_time_and_level_and_the_first_truncates_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "old").unwrap();
        let log = GuestLog::to_file(OutputFile::open(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        log.line(Level::from_number(level::WARNING).unwrap(), b"twice").unwrap();
        log.line(Level::from_number(level::DEBUG).unwrap(), b"").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let parts: Vec<_> = lines.iter().map(|line| line.split_once("] ").unwrap()).collect();
        assert_eq!(
            parts.iter().map(|part| part.1).collect::<Vec<_>>(),
            ["warning: twice", "debug: "]
        );
        assert!(parts.iter().all(|part| part.0.len() == "[    0.000000".len()));
    }
}
