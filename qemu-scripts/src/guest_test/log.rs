//! A guest's log: the lines that the plugin's option `log` wrote.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result};

/// A line such as `[    0.004211] info: text`. The plugin has escaped control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine(pub String);

impl LogLine {
    /// Reads at most the first `limit` bytes of a log.
    ///
    /// # Errors
    ///
    /// Fails if the file exists and cannot be read.
    pub fn read(path: &Path, limit: u64) -> Result<Vec<LogLine>> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(file) => file
                .take(limit)
                .read_to_end(&mut bytes)
                .context("the guest's log cannot be read")?,
            // A machine that did not start wrote no log.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context("the guest's log cannot be read"),
        };
        Ok(String::from_utf8_lossy(&bytes).lines().map(|line| LogLine(line.into())).collect())
    }

    /// Returns true if the line is an error or a warning.
    pub fn is_error_or_warning(&self) -> bool {
        matches!(self.parts(), Some(("error" | "warning", _)))
    }

    /// Parses a test result: `test NAME: ok` or `test NAME: FAILED`.
    pub fn result(&self) -> Option<(&str, bool)> {
        let (_, text) = self.parts()?;
        let (name, result) = text.strip_prefix("test ")?.rsplit_once(": ")?;
        match result {
            "ok" => Some((name, true)),
            "FAILED" => Some((name, false)),
            _ => None,
        }
    }

    /// Returns the level and the text.
    fn parts(&self) -> Option<(&str, &str)> {
        self.0.split_once("] ")?.1.split_once(": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart_by_level_and_text() {
        let line = |text: &str| LogLine(format!("[    0.004211] {text}"));
        assert!(
            line("error: it burns").is_error_or_warning()
                && line("warning: smoke").is_error_or_warning()
        );
        assert!(!line("info: error: no").is_error_or_warning());
        assert_eq!(line("info: test a: b: ok").result(), Some(("a: b", true)));
        assert_eq!(line("error: test x: FAILED").result(), Some(("x", false)));
        for none in ["info: test x: OK", "info: tests: ok", "info: a test x: ok", "info: test: ok"]
        {
            assert_eq!(line(none).result(), None, "{none}");
        }
    }
}
