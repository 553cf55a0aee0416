//! Derives a guest's verdict from the end of its machine.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use pvio_x86::Direction;

use crate::stats::Call;

use super::LogLine;
use super::expectation::Expectation;
use super::pattern::Match;
use crate::machine::Ended;

/// The port at which guests usually expect isa-debug-exit.
const DEBUG_EXIT_PORT: u16 = 0xf4;

/// A guest's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The code of the guest's `exit` call; `None` without one.
    pub code: Option<i32>,
    /// The reason of the failure; `None` if the guest passed.
    pub failure: Option<String>,
}

/// The reason why a machine was stopped, other than a line that gave the verdict.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stopped {
    /// The guest reached this time limit.
    Time(Duration),
    /// The guest logged more than this many bytes.
    Log(u64),
    /// The guest wrote more than this many bytes to the serial port or the debug console.
    Output(u64),
}

/// The end of a machine.
#[derive(Debug)]
pub(super) struct End {
    /// QEMU's exit status, output and statistics.
    pub ended: Ended,
    /// Set if the machine was stopped.
    pub stopped: Option<Stopped>,
    /// The line of the guest's output that matched.
    pub matched: Option<Match>,
    /// True if the machine has isa-debug-exit.
    pub has_debug_exit: bool,
}

impl Verdict {
    /// The verdict of a guest that did not run.
    pub(super) fn not_run(why: String) -> Verdict {
        Verdict { code: None, failure: Some(why) }
    }

    /// Decides the verdict after the machine has ended.
    pub(super) fn of(end: &End, log: &[LogLine], expectation: &Expectation) -> Verdict {
        let code = match end.stopped {
            None if exits(&end.ended).given > 0 => end.ended.status.code(),
            _ => None,
        };
        let line = |pattern: &Option<super::Pattern>| match pattern {
            Some(pattern) => format!("a line that matches {pattern}"),
            None => String::new(),
        };
        let failure = match (&end.matched, code) {
            (Some(Match { success: false, line: seen }), _) => {
                Some(format!("{}, which means failure: {seen}", line(&expectation.failure)))
            }
            (_, Some(0)) => failed_tests(log, "exit code 0"),
            (_, Some(code)) => Some(format!("exit code {code}")),
            (Some(Match { success: true, .. }), None) => {
                failed_tests(log, &line(&expectation.success))
            }
            (None, None) => match success(end, expectation) {
                Some(success) => failed_tests(log, &success),
                None => Some(no_success(end, expectation)),
            },
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

/// Returns a failure if tests in the log failed although the guest ended with success.
fn failed_tests(log: &[LogLine], success: &str) -> Option<String> {
    let results = || log.iter().filter_map(LogLine::result);
    let failed = results().filter(|&(_, passed)| !passed).count();
    let all = results().count();
    let tests = if all == 1 { "test" } else { "tests" };
    (failed > 0).then(|| format!("{success}, but {failed} of {all} {tests} failed"))
}

/// How a machine ended.
#[derive(Debug, PartialEq, Eq)]
enum How {
    PowerOff,
    /// A device ended QEMU with this status.
    Device(i32),
    NotRun(i32),
    Other(String),
}

/// Describes the success that the end of a machine is, if it is one.
///
/// A reset is none: QEMU's status is 0 after it, too, and a triple fault is one.
fn success(end: &End, expectation: &Expectation) -> Option<String> {
    let expected = expectation.status.map(i32::from);
    match how(end) {
        How::PowerOff if expectation.power_off => Some("a power-off".into()),
        How::PowerOff if expected == Some(0) => Some("exit status 0".into()),
        How::Device(status) if expected == Some(status) => Some(format!("exit status {status}")),
        _ => None,
    }
}

fn no_success(end: &End, expectation: &Expectation) -> String {
    let how = how(end);
    let seen = match &how {
        How::NotRun(status) => return format!("QEMU did not run the guest: exit status {status}"),
        How::PowerOff => "the guest powered off".to_owned(),
        How::Device(status) => format!("a device ended QEMU with status {status}"),
        How::Other(seen) => seen.clone(),
    };
    let hint = match exits(&end.ended) {
        Exits { denied: 1.., .. } => Some(
            "its exit call came from user code and was denied: allow it with --option hypercall=any"
                .to_owned(),
        ),
        _ => hint(&how, end, expectation),
    };
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    match expectation.expected() {
        Some(expected) => format!("{seen}, but expected {expected}{hint}"),
        None => format!("no verdict: {seen}{hint}"),
    }
}

/// Returns what the user may do about an end that is no success.
fn hint(how: &How, end: &End, expectation: &Expectation) -> Option<String> {
    match (how, expectation.status) {
        (How::PowerOff, None) if !expectation.power_off => {
            Some("if that is success, add --success-power-off".into())
        }
        (How::Device(status), expected) => {
            // The value that the guest wrote.
            let written = (end.has_debug_exit && status % 2 == 1).then_some(status / 2);
            let formula = written.map(|written| {
                format!(
                    "isa-debug-exit makes 2n + 1 of n, and the guest wrote {written} ({written:#x})"
                )
            });
            let advice = match expected.map(i32::from) {
                None => Some(format!("if that is success, add --success-status {status}")),
                Some(expected) if written == Some(expected) => {
                    Some(format!("for that value, --success-status is {status}"))
                }
                Some(_) => None,
            };
            let parts: Vec<String> = [formula, advice].into_iter().flatten().collect();
            (!parts.is_empty()).then(|| parts.join("; "))
        }
        (How::Other(_), _) if wrote_to_no_debug_exit(end) => Some(format!(
            "it wrote to port {DEBUG_EXIT_PORT:#x}, where no device is: add -- -device \
             isa-debug-exit,iobase={DEBUG_EXIT_PORT:#x},iosize=0x04"
        )),
        _ => None,
    }
}

/// Returns true if the guest wrote to the usual port of isa-debug-exit, and nothing is there.
fn wrote_to_no_debug_exit(end: &End) -> bool {
    let mut ports = end.ended.stats.iter().flat_map(|stats| &stats.ports);
    ports.any(|row| {
        row.port.0 == DEBUG_EXIT_PORT && row.dir == Direction::Out && row.served == Some(false)
    })
}

fn how(end: &End) -> How {
    match end.stopped {
        Some(Stopped::Time(limit)) => {
            return How::Other(format!("still running after {} s", limit.as_secs()));
        }
        Some(Stopped::Log(limit)) => {
            return How::Other(format!("more than {} MiB logged", limit >> 20));
        }
        Some(Stopped::Output(limit)) => {
            return How::Other(format!("more than {} MiB written to the serial port", limit >> 20));
        }
        None => {}
    }
    let ended = &end.ended;
    if let Some(signal) = ended.status.signal() {
        return How::Other(format!("QEMU was killed by signal {signal}"));
    }
    let status = ended.status.code().unwrap_or_default();
    let Some(stats) = &ended.stats else { return How::NotRun(status) };
    match (&*stats.ended, status) {
        ("reset", _) => How::Other("the guest reset the machine (triple fault?)".into()),
        ("shutdown", 0) => How::PowerOff,
        ("shutdown" | "exit", status) => How::Device(status),
        ("panic", _) => How::Other("the guest panicked".into()),
        (how, _) => How::Other(format!("QEMU was ended from outside the guest ({how})")),
    }
}
