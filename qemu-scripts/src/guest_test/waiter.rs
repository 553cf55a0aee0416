//! Waits for a machine, and ends it at its limits.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::Signal;

use super::expectation::Expectation;
use super::pattern::{Match, Watch};
use super::verdict::{End, Stopped};
use crate::machine::Running;

/// Maximum size of a guest's log, in bytes. A guest that logs more is stopped.
pub(super) const LOG_LIMIT: u64 = 16 << 20;

/// Maximum size of a guest's output, in bytes. A guest that writes more is stopped.
const OUTPUT_LIMIT: u64 = 16 << 20;

/// Time from SIGTERM to SIGKILL.
const TERM_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval at which a machine is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Waits until a machine ends, or until there is a reason to end it.
pub(super) struct Waiter<'a> {
    /// Returns true if the guests are stopped.
    pub is_stopped: &'a dyn Fn() -> bool,
    pub expectation: &'a Expectation,
    pub time_limit: Duration,
    pub log: &'a Path,
    /// The files of the serial port and of the debug console.
    pub outputs: Vec<(PathBuf, Watch)>,
}

impl Waiter<'_> {
    /// Returns the end of the machine; `None` if the guests are stopped.
    ///
    /// # Errors
    ///
    /// Fails if QEMU cannot be waited for, or if its statistics are damaged.
    pub(super) fn wait(
        &mut self,
        running: &mut Running,
        has_debug_exit: bool,
    ) -> Result<Option<End>> {
        let started = Instant::now();
        let end = |ended, stopped, matched| End { ended, stopped, matched, has_debug_exit };
        let is_larger = |path: &Path, limit| path.metadata().is_ok_and(|file| file.len() > limit);
        let (stopped, matched) = loop {
            if let Some(ended) = running.poll()? {
                let matched = self.search(true);
                return Ok(Some(end(ended, None, matched)));
            }
            if (self.is_stopped)() {
                return Ok(None);
            }
            if let Some(found) = self.search(false) {
                break (None, Some(found));
            }
            if started.elapsed() > self.time_limit {
                break (Some(Stopped::Time(self.time_limit)), None);
            } else if is_larger(self.log, LOG_LIMIT) {
                break (Some(Stopped::Log(LOG_LIMIT)), None);
            } else if self.outputs.iter().any(|(path, _)| is_larger(path, OUTPUT_LIMIT)) {
                break (Some(Stopped::Output(OUTPUT_LIMIT)), None);
            }
            std::thread::sleep(POLL);
        };
        // After SIGTERM the plugin still writes its statistics.
        running.signal(Signal::TERM.as_raw())?;
        let asked = Instant::now();
        loop {
            if let Some(mut ended) = running.poll()? {
                // Hides QEMU's line about the SIGTERM.
                let said =
                    ended.stderr.lines().filter(|line| !line.contains("terminating on signal"));
                ended.stderr = said.map(|line| format!("{line}\n")).collect();
                return Ok(Some(end(ended, stopped, matched)));
            }
            if asked.elapsed() > TERM_TIMEOUT {
                running.signal(Signal::KILL.as_raw())?;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Searches the outputs for a line that gives the verdict.
    fn search(&mut self, end: bool) -> Option<Match> {
        let Expectation { success, failure, .. } = self.expectation;
        if !self.expectation.has_patterns() {
            return None;
        }
        let search = |(_, watch): &mut (PathBuf, Watch)| {
            watch.search(success.as_ref(), failure.as_ref(), end)
        };
        // A failure in one output counts before a success in the other.
        let found: Vec<Match> = self.outputs.iter_mut().filter_map(search).collect();
        found.iter().find(|found| !found.success).or(found.first()).cloned()
    }
}
