//! The result of a guest, with a bounded part of its output.

use std::time::Duration;

use crate::stats::Snapshot;

use super::quote::one_line;
use super::{LogLine, Verdict};

/// Maximum number of lines that are quoted of an output.
pub(super) const MAX_LINES: usize = 20;

/// The result of a guest.
#[derive(Debug)]
pub struct Report {
    /// The guest's verdict. It means nothing if the guest is skipped.
    pub verdict: Verdict,
    /// The reason why the guest does not count: a test that does not run here.
    pub skipped: Option<String>,
    /// The guest's log.
    pub log: Vec<LogLine>,
    /// The elapsed time.
    pub wall: Duration,
    /// The last lines that the guest wrote to the serial port, quoted.
    pub serial: Vec<String>,
    /// The last lines that the guest wrote to the debug console, quoted.
    pub console: Vec<String>,
    /// The last lines that QEMU wrote to stderr, quoted.
    pub qemu: Vec<String>,
    /// The statistics, if the guest ran.
    pub stats: Option<Snapshot>,
    /// The failures of earlier attempts.
    pub earlier: Vec<String>,
}

impl Report {
    /// The report of a guest that does not run here.
    pub(super) fn skipped(why: String) -> Report {
        let verdict = Verdict { code: None, failure: None };
        Report { skipped: Some(why), verdict, ..Report::not_run(String::new()) }
    }

    /// The report of a guest that did not run.
    pub(super) fn not_run(why: String) -> Report {
        Report {
            verdict: Verdict::not_run(why),
            skipped: None,
            log: Vec::new(),
            wall: Duration::ZERO,
            serial: Vec::new(),
            console: Vec::new(),
            qemu: Vec::new(),
            stats: None,
            earlier: Vec::new(),
        }
    }

    /// Describes a flaky guest: one that passed after it had failed. `None` if it is not.
    pub fn flaky(&self) -> Option<String> {
        let failed = self.earlier.len();
        let last = self.earlier.last().filter(|_| self.verdict.passed())?;
        Some(format!("flaky: passed at attempt {}; attempt {failed} failed: {last}", failed + 1))
    }

    /// Returns the lines of the log that are errors or warnings.
    pub(super) fn grave(&self) -> impl Iterator<Item = &str> {
        self.log.iter().filter(|line| line.is_error_or_warning()).map(|line| line.0.as_str())
    }

    /// Returns the outputs that are quoted after a failure, by name.
    pub(super) fn outputs(&self) -> [(&'static str, &[String]); 3] {
        [("serial", &self.serial), ("console", &self.console), ("qemu", &self.qemu)]
    }
}

/// Quotes the last lines, which are closest to the failure.
pub(super) fn last_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(MAX_LINES)
        .map(one_line)
        .collect();
    lines.reverse();
    lines
}
