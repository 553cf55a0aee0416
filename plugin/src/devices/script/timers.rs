//! A script's timers.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::devices::{Settings, Timer};

/// The number of timers of a script.
pub(super) const TIMERS: usize = 8;

/// A timer is due after so many nanoseconds at the earliest: a script that sets it again and again would keep QEMU's main
/// thread from all else.
const SHORTEST: u64 = 10_000;

/// Not a time at which a timer is due.
const NOT_SET: u64 = u64::MAX;

/// The timers, numbered from 0.
pub(super) struct Timers([ScriptTimer; TIMERS]);

struct ScriptTimer {
    /// Never contended: calls of a device come one at a time.
    timer: Mutex<Box<dyn Timer>>,
    /// When it is due. While QEMU's thread waits for the device, a call may set the timer anew, or cancel it.
    ///
    /// Relaxed: calls of a device come one at a time.
    time: AtomicU64,
}

impl Timers {
    /// Makes the timers; `None` if the guest's clock cannot be read.
    pub fn new(settings: &Settings<'_>) -> Option<Timers> {
        let mut timers = Vec::with_capacity(TIMERS);
        for number in 0..TIMERS {
            let timer = Mutex::new(settings.timer(number)?);
            timers.push(ScriptTimer { timer, time: AtomicU64::new(NOT_SET) });
        }
        timers.try_into().ok().map(Timers)
    }

    /// Sets a timer to `delay` nanoseconds after `now`.
    pub fn set(&self, number: usize, now: u64, delay: u64) {
        let time = now.saturating_add(delay.max(SHORTEST)).min(NOT_SET - 1);
        let timer = &self.0[number];
        timer.time.store(time, Ordering::Relaxed);
        timer.timer.lock().unwrap_or_else(PoisonError::into_inner).set(time);
    }

    /// Cancels a timer.
    pub fn cancel(&self, number: usize) {
        let timer = &self.0[number];
        if timer.time.swap(NOT_SET, Ordering::Relaxed) != NOT_SET {
            timer.timer.lock().unwrap_or_else(PoisonError::into_inner).cancel();
        }
    }

    /// Cancels all timers.
    pub fn cancel_all(&self) {
        (0..TIMERS).for_each(|number| self.cancel(number));
    }

    /// Returns whether a timer is due at `now`. From then on it is not set.
    pub fn take_due(&self, number: usize, now: u64) -> bool {
        let time = &self.0[number].time;
        let is_due = time.load(Ordering::Relaxed) <= now;
        if is_due {
            time.store(NOT_SET, Ordering::Relaxed);
        }
        is_due
    }
}
