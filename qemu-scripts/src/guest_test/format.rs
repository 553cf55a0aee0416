//! What every format of a report has in common.

use std::io;

use super::Report;

/// Counts of the guests of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Guests that passed, flaky ones included.
    pub passed: usize,
    /// Guests that failed.
    pub failed: usize,
    /// Guests that passed after they had failed.
    pub flaky: usize,
    /// Guests that were not run.
    pub skipped: usize,
}

impl Totals {
    /// Adds a report.
    pub fn add(&mut self, report: &Report) {
        match report.verdict.passed() {
            _ if report.skipped.is_some() => self.skipped += 1,
            true => self.passed += 1,
            false => self.failed += 1,
        }
        self.flaky += usize::from(report.flaky().is_some());
    }

    /// Returns a line such as `3 guests: 2 passed (1 flaky), 1 failed`.
    pub(super) fn line(&self) -> String {
        let all = self.passed + self.failed + self.skipped;
        let guests = if all == 1 { "guest" } else { "guests" };
        let flaky = match self.flaky {
            0 => String::new(),
            flaky => format!(" ({flaky} flaky)"),
        };
        let skipped = match self.skipped {
            0 => String::new(),
            skipped => format!(", {skipped} not run"),
        };
        format!("{all} {guests}: {} passed{flaky}, {} failed{skipped}", self.passed, self.failed)
    }
}

/// Writes a report, guest by guest, in the order of the command line.
pub trait Format {
    /// Begins the report of `count` runs.
    ///
    /// # Errors
    ///
    /// This and the other functions fail if the output cannot be written.
    fn begin(&mut self, count: usize) -> io::Result<()>;

    /// Writes the result of the next run.
    ///
    /// # Errors
    ///
    /// Fails if the output cannot be written.
    fn result(&mut self, name: &str, report: &Report) -> io::Result<()>;

    /// Writes that the next run is left out.
    ///
    /// # Errors
    ///
    /// Fails if the output cannot be written.
    fn skipped(&mut self, name: &str, why: &str) -> io::Result<()>;

    /// Ends the report after the last run.
    ///
    /// # Errors
    ///
    /// Fails if the output cannot be written.
    fn end(&mut self, totals: &Totals) -> io::Result<()>;

    /// Ends the report early and states the reason.
    ///
    /// # Errors
    ///
    /// Fails if the output cannot be written.
    fn bail_out(&mut self, why: &str) -> io::Result<()>;
}
