//! From how a machine ended to what is said of its guest.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use crate::stats::Call;

use super::LogLine;
use crate::machine::Ended;

/// Whether a guest passed, and if not, why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The code that the guest gave itself, if it came to that.
    pub code: Option<i32>,
    /// What is wrong.
    pub failure: Option<String>,
}

/// Why a machine was not left to itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stopped {
    /// It had run for this long.
    TimeLimit(Duration),
    /// It had logged so many bytes.
    LogLimit(u64),
}

impl Verdict {
    /// Of a guest whose machine has ended.
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

    /// Whether nothing is wrong.
    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }
}

/// The guest's calls of `exit`.
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

/// A guest that exits with 0 although it announced failures has not looked at its own results.
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
            "{how}; its exit call was denied, since it came from user code: see option hypercall=any"
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
            return format!("no verdict: it logged more than {} MiB", limit >> 20);
        }
        None => {}
    }
    if let Some(signal) = ended.status.signal() {
        return format!("no verdict: QEMU was killed by signal {signal}");
    }
    let status = ended.status.code().unwrap_or_default();
    let Some(stats) = &ended.stats else {
        return format!("QEMU did not run the guest: it ended with status {status}");
    };
    match (&*stats.ended, status) {
        ("reset", _) => "no verdict: it reset the machine (triple fault?)".into(),
        ("shutdown", 0) => "no verdict: it powered off".into(),
        ("shutdown" | "exit", status) => {
            format!("no verdict: a device ended QEMU with status {status}")
        }
        ("panic", _) => "no verdict: it panicked".into(),
        (how, _) => format!("no verdict: QEMU was ended from outside ({how})"),
    }
}
