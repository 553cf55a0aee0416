//! What a person sees while something takes its time.

use std::io::{IsTerminal, Write};

/// A line on stderr that is written over, on a terminal; elsewhere nothing.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// Shown where stderr is a terminal.
    pub fn new() -> Progress {
        Progress { shown: std::io::stderr().is_terminal() }
    }

    /// Replaces the line.
    pub fn set(&self, line: &str) {
        if self.shown {
            // A terminal may be gone.
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

impl Drop for Progress {
    fn drop(&mut self) {
        self.set("");
    }
}
