//! How long the guest waits: for one answer, and for late answers in total.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::fault::{Fault, NoAnswer};
use crate::devices::StopRequest;

/// The time between two looks at whether QEMU wants its thread back.
const SLICE: Duration = Duration::from_millis(5);

/// How long accesses still wait after QEMU wants its thread back. A program that is well answers in time.
const GRACE: Duration = Duration::from_millis(100);

/// An answer that comes sooner is not late.
const PROMPT: Duration = Duration::from_millis(20);

/// The limits of the guest's waiting.
pub(super) struct Patience {
    /// The longest wait for one answer.
    limit: Duration,
    stop: StopRequest,
    /// When QEMU was first seen to want its thread back.
    stop_since: Option<Instant>,
    late: Late,
}

impl Patience {
    pub fn new(limit: Duration, stop: StopRequest) -> Patience {
        Patience { limit, stop, stop_since: None, late: Late::new(Instant::now()) }
    }

    /// Begins to wait for an answer. Fails if accesses no longer wait, because QEMU ends or stops.
    pub fn begin(&mut self) -> Result<Wait, NoAnswer> {
        let now = Instant::now();
        if !(self.stop)() {
            self.stop_since = None;
        } else if now >= *self.stop_since.get_or_insert(now) + GRACE {
            return Err(NoAnswer::Stopped);
        }
        Ok(Wait { begin: now })
    }

    /// Waits until the stream has something, or for a short time.
    pub fn wait(
        &mut self,
        wait: &Wait,
        stream: &UnixStream,
        interest: PollFlags,
    ) -> Result<(), NoAnswer> {
        let now = self.check(wait)?;
        let left = (wait.begin + self.limit).saturating_duration_since(now).min(SLICE);
        if (self.stop)() {
            let since = *self.stop_since.get_or_insert(now);
            if now >= since + GRACE {
                return Err(NoAnswer::Stopped);
            }
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        // An interruption by a signal is a turn without news.
        let _ = poll(&mut [PollFd::new(stream, interest)], Some(&timeout));
        Ok(())
    }

    /// Fails if the answer has taken too long.
    pub fn check(&self, wait: &Wait) -> Result<Instant, Fault> {
        let now = Instant::now();
        match now >= wait.begin + self.limit {
            true => Err(Fault::Silent(self.limit)),
            false => Ok(now),
        }
    }

    /// Accounts for a wait that is over.
    pub fn end(&mut self, wait: &Wait) -> Result<(), Fault> {
        let now = Instant::now();
        let late = (now - wait.begin).saturating_sub(PROMPT);
        if late.is_zero() {
            return Ok(());
        }
        let total = self.late.add(late, now);
        match total > 2 * self.limit {
            true => Err(Fault::Slow(total)),
            false => Ok(()),
        }
    }
}

/// A wait for an answer.
pub(super) struct Wait {
    begin: Instant,
}

/// The waiting for late answers, of which half a second is forgiven in each second.
struct Late {
    total: Duration,
    since: Instant,
}

impl Late {
    fn new(now: Instant) -> Late {
        Late { total: Duration::ZERO, since: now }
    }

    /// Adds a wait that has just ended. Returns the total.
    fn add(&mut self, late: Duration, now: Instant) -> Duration {
        let forgiven = now.saturating_duration_since(self.since) / 2;
        self.total = self.total.saturating_sub(forgiven) + late;
        self.since = now;
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_after_the_limit_or_late_answers_in_sum_are_faults() {
        let limit = Duration::from_secs(100);
        let mut patience = Patience::new(limit, std::sync::Arc::new(|| false));
        let waited = |seconds| Wait { begin: Instant::now() - Duration::from_secs(seconds) };
        assert!(patience.check(&waited(99)).is_ok());
        assert!(matches!(patience.check(&waited(100)), Err(Fault::Silent(_))));
        for _ in 0..1000 {
            assert!(patience.end(&waited(0)).is_ok());
        }
        // Two hundred seconds are too many within a moment.
        assert!(patience.end(&waited(99)).is_ok());
        assert!(patience.end(&waited(99)).is_ok());
        assert!(matches!(patience.end(&waited(99)), Err(Fault::Slow(total)) if total > 2 * limit));
    }

    /// The total after answers that each take `answer`, one after the other, for 100 seconds.
    fn after_100_seconds(answer: Duration) -> Duration {
        let mut now = Instant::now();
        let mut late = Late::new(now);
        let mut total = Duration::ZERO;
        for _ in 0..(100_000 / answer.as_millis()) {
            now += answer;
            total = late.add(answer.saturating_sub(PROMPT), now);
        }
        total
    }

    #[test]
    fn late_waiting_in_excess_of_half_the_time_adds_up() {
        let millis = Duration::from_millis;
        // Two thirds and half of the time are late; a quarter is not too much.
        assert!(after_100_seconds(millis(60)) > millis(10_000));
        assert!(after_100_seconds(millis(800)) > millis(40_000));
        assert!(after_100_seconds(millis(40)) <= millis(100));
        assert!(after_100_seconds(millis(25)) <= millis(100));
    }
}
