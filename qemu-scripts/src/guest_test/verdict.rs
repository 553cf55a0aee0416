//! Derives a guest's verdict from the end of its machine.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use crate::stats::Call;

use super::LogLine;
use crate::machine::Ended;

/// A guest's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The code of the guest's `exit` call; `None` without one.
    pub code: Option<i32>,
    /// The reason of the failure; `None` if the guest passed.
    pub failure: Option<String>,
}

/// The reason why a machine was stopped.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stopped {
    /// The guest reached this time limit.
    TimeLimit(Duration),
    /// The guest logged more than this many bytes.
    LogLimit(u64),
}

impl Verdict {
    /// Decides the verdict after the machine has ended.
    pub(super) fn of(ended: &Ended, stopped: Option<Stopped>, log: &[LogLine]) -> Verdict {
        let code = match stopped {
            None if exits(ended).given > 0 => ended.status.code(),
            _ => None,
        };
        let failure = match code {
            Some(0) => failed_tests(log),
            Some(code) => Some(format!("exit code {code}")),
            None => Some(no_verdict(ended, stopped)),
        };
        Verdict { code, failure }
    }

    /// Returns true if the guest passed.
    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }
}

/// Counts of the guest's `exit` calls.
#[derive(Clone, Copy, Debug, Default)]
struct Exits {
    given: u64,
    denied: u64,
}

fn exits(ended: &Ended) -> Exits {
    let rows = ended.stats.iter().flat_map(|stats| &stats.hypercalls);
    rows.filter(|row| row.call == Call::Exit).fold(Exits::default(), |exits, row| Exits {
        given: exits.given + row.count - row.denied - row.declined - row.errors,
        denied: exits.denied + row.denied,
    })
}

/// Returns a failure if tests in the log failed although the guest exited with 0.
fn failed_tests(log: &[LogLine]) -> Option<String> {
    let results = || log.iter().filter_map(LogLine::result);
    let failed = results().filter(|&(_, passed)| !passed).count();
    let all = results().count();
    let tests = if all == 1 { "test" } else { "tests" };
    (failed > 0).then(|| format!("exit code 0, but {failed} of {all} {tests} failed"))
}

fn no_verdict(ended: &Ended, stopped: Option<Stopped>) -> String {
    let how = how_it_ended(ended, stopped);
    match exits(ended) {
        Exits { denied: 1.., .. } => format!(
            "{how}; its exit call came from user code and was denied: allow it with --option hypercall=any"
        ),
        _ => how,
    }
}

fn how_it_ended(ended: &Ended, stopped: Option<Stopped>) -> String {
    match stopped {
        Some(Stopped::TimeLimit(limit)) => {
            return format!("no verdict: still running after {} s", limit.as_secs());
        }
        Some(Stopped::LogLimit(limit)) => {
            return format!("no verdict: more than {} MiB logged", limit >> 20);
        }
        None => {}
    }
    if let Some(signal) = ended.status.signal() {
        return format!("no verdict: QEMU was killed by signal {signal}");
    }
    let status = ended.status.code().unwrap_or_default();
    let Some(stats) = &ended.stats else {
        return format!("QEMU did not run the guest: exit status {status}");
    };
    match (&*stats.ended, status) {
        ("reset", _) => "no verdict: the guest reset the machine (triple fault?)".into(),
        ("shutdown", 0) => "no verdict: the guest powered off".into(),
        ("shutdown" | "exit", status) => {
            format!("no verdict: a device ended QEMU with status {status}")
        }
        ("panic", _) => "no verdict: the guest panicked".into(),
        (how, _) => format!("no verdict: QEMU was ended from outside the guest ({how})"),
    }
}
