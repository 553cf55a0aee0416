//! Lines that the guest logs, on stderr or in a file: `[    0.004211] info: text`.
//!
//! The text is the guest's: what could move a terminal's cursor, or is no UTF-8, is shown as it stands.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pvio_guest::abi::level;

use crate::files::OutputFile;
use crate::qemu::report::show;

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(&'static str);

impl Level {
    /// By the ABI's number.
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

/// Where the lines go.
pub struct GuestLog {
    opened: Instant,
    /// stderr, where there is none.
    file: Option<Mutex<LogFile>>,
}

struct LogFile {
    file: OutputFile,
    /// The first error, for whoever runs the machine; the guest is told of each.
    failed: Option<io::Error>,
}

impl GuestLog {
    /// To stderr.
    pub fn to_stderr() -> GuestLog {
        GuestLog { opened: Instant::now(), file: None }
    }

    /// To a file, which is made empty with the first line, or when the machine ends.
    pub fn create(path: &Path) -> io::Result<GuestLog> {
        let file = LogFile { file: OutputFile::open(path)?, failed: None };
        Ok(GuestLog { opened: Instant::now(), file: Some(Mutex::new(file)) })
    }

    /// Writes a line.
    pub fn line(&self, level: Level, text: &[u8]) -> io::Result<()> {
        let elapsed = self.opened.elapsed();
        let (seconds, micros) = (elapsed.as_secs(), elapsed.subsec_micros());
        let line = format!("[{seconds:>5}.{micros:06}] {}: {}\n", level.0, harmless(text));
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

    /// The machine has ended: a file without a line is empty. An error says that one is missing.
    pub fn finish(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let LogFile { file, failed } = &mut *lock(file);
        failed.take().map_or_else(|| file.flush(), Err)
    }
}

fn lock(file: &Mutex<LogFile>) -> MutexGuard<'_, LogFile> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The text with control characters as escapes, and bytes that are no UTF-8 as `\x..`.
pub fn harmless(text: &[u8]) -> String {
    let mut safe = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match is_harmless(character) {
                true => safe.push(character),
                false => safe.extend(character.escape_default()),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(safe, "\\x{byte:02x}");
        }
    }
    safe
}

/// Whether a character only shows. Besides the controls, Unicode has some that reorder the text around
/// them (UAX #9), or break the line.
fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_and_not_obeyed() {
        assert_eq!(harmless("grüße, 世界 \\".as_bytes()), "grüße, 世界 \\");
        assert_eq!(harmless(b"a\nb\x1b[2J\x7f\t\0"), "a\\nb\\u{1b}[2J\\u{7f}\\t\\u{0}");
        assert_eq!(
            harmless("\u{9b}31m \u{202e}abc\u{2066}".as_bytes()),
            "\\u{9b}31m \\u{202e}abc\\u{2066}"
        );
        assert_eq!(harmless(b"\xff\xc3(\xe2\x82"), "\\xff\\xc3(\\xe2\\x82");
    }

    #[test]
    fn a_line_has_its_time_and_level() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "old").unwrap();
        let log = GuestLog::create(&path).unwrap();
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
