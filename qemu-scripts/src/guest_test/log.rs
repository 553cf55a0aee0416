//! What a guest logged: the lines of the plugin's option `log`.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result};

/// A line, `[    0.004211] info: text`, in which the plugin has escaped what would not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine(pub String);

impl LogLine {
    /// Reads a log, of which not more than the first `limit` bytes.
    pub fn read(path: &Path, limit: u64) -> Result<Vec<LogLine>> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(file) => {
                file.take(limit).read_to_end(&mut bytes).context("the guest's log is not read")?
            }
            // Without a machine that ran, there is none.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context("the guest's log is not read"),
        };
        Ok(String::from_utf8_lossy(&bytes).lines().map(|line| LogLine(line.into())).collect())
    }

    /// Whether it is an error or a warning.
    pub fn is_grave(&self) -> bool {
        matches!(self.parts(), Some(("error" | "warning", _)))
    }

    /// Whether it is the result of a test within the guest, `test NAME: ok` or `test NAME: FAILED`.
    pub fn result(&self) -> Option<(&str, bool)> {
        let (_, text) = self.parts()?;
        let (name, result) = text.strip_prefix("test ")?.rsplit_once(": ")?;
        match result {
            "ok" => Some((name, true)),
            "FAILED" => Some((name, false)),
            _ => None,
        }
    }

    /// The level and the text.
    fn parts(&self) -> Option<(&str, &str)> {
        self.0.split_once("] ")?.1.split_once(": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_it_is() {
        let line = |text: &str| LogLine(format!("[    0.004211] {text}"));
        assert!(line("error: it burns").is_grave() && line("warning: smoke").is_grave());
        assert!(!line("info: error: no").is_grave());
        assert_eq!(line("info: test a: b: ok").result(), Some(("a: b", true)));
        assert_eq!(line("error: test x: FAILED").result(), Some(("x", false)));
        for none in ["info: test x: OK", "info: tests: ok", "info: a test x: ok", "info: test: ok"]
        {
            assert_eq!(line(none).result(), None, "{none}");
        }
    }
}
