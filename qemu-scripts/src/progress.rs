//! A progress line for steps that take seconds.

use std::io::{IsTerminal, Write};

/// A line on stderr that is overwritten. Hidden if stderr is not a terminal.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// Makes an empty line.
    pub fn new() -> Progress {
        Progress { shown: std::io::stderr().is_terminal() }
    }

    /// Replaces the line.
    pub fn set(&self, line: &str) {
        if self.shown {
            // An error means that the terminal is closed.
            let mut stderr = std::io::stderr();
            let _ = write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush());
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Progress::new()
    }
}

/// Erases the line.
impl Drop for Progress {
    fn drop(&mut self) {
        self.set("");
    }
}
