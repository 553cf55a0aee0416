//! Plays a recording to a driver: decides what each read returns, and whether each write is the recorded one.
//!
//! The player has a place in the recording. An access that is the next one there advances the place. Drivers poll, and
//! the number of polls depends on time, so reads need not be the recorded ones one by one:
//!
//! | the driver | the player |
//! | --- | --- |
//! | reads what is next, or next after reads that only repeat their last values | advances |
//! | reads something else | returns the value of that port at this place, and stays: an extra read |
//! | writes what the next recorded write has | advances; reads before it are left out |
//! | writes something else | it is a difference |
//!
//! So a polled status advances with each read as it was recorded, but never beyond an access that the driver must make
//! first. The elements of strings are data, of which none may be left out or read twice.

use std::collections::HashMap;

use super::access::{Access, Key};
use super::difference::{Difference, History, Surroundings, Why};
use super::recording::{Recording, Run, Step};
use crate::x86::Direction;

/// Steps to look ahead. A recorded poll is one step, however often it reads.
const LOOK_AHEAD: usize = 4096;

/// Extra reads in a row after which the driver waits in vain. A tight loop makes them in less than a second; a timer that
/// polls 250 times a second takes an hour.
const WAITS_IN_VAIN: u32 = 1_000_000;

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Recorded accesses before the place.
    pub passed: u64,
    /// Reads among them that the driver did not make.
    pub left_out: u64,
    /// Reads that are not recorded.
    pub extra: u64,
    /// Accesses that are not the recorded ones.
    pub differences: u64,
}

/// The last read of a port.
#[derive(Clone, Copy, Debug)]
struct LastRead {
    value: u32,
    /// The number of writes before it.
    writes: u64,
}

/// A recording and the place in it.
#[derive(Debug, Default)]
pub(super) struct Player {
    recording: Recording,
    /// The step of the place.
    at: usize,
    /// The number of its accesses before the place.
    done: u32,
    /// The last reads before the place.
    last: HashMap<Key, LastRead>,
    /// The number of writes before the place.
    writes: u64,
    /// Extra reads since the place has advanced.
    waited: u32,
    counts: Counts,
    driver: History,
    /// The changes of interrupt lines that the place has passed, in their order, for the device to make.
    pub irqs: Vec<(u8, bool)>,
    /// The first difference, until it is taken.
    pub difference: Option<Box<Difference>>,
    /// The accesses before the first difference.
    pub first_difference: Option<u64>,
}

impl Player {
    pub fn new(recording: Recording) -> Player {
        Player { recording, ..Player::default() }
    }

    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The driver reads. Returns the value.
    pub fn read(&mut self, port: u16, size: u8) -> u32 {
        let key = Key { port, size, direction: Direction::In };
        let value = match self.next_read(key) {
            Some(step) => self.advance_by(step),
            None => self.extra_read(key),
        };
        self.driver.add(Access { key, value }, self.recording.is_data(key), 1);
        value
    }

    /// The driver writes.
    pub fn write(&mut self, port: u16, size: u8, value: u32) {
        let key = Key { port, size, direction: Direction::Out };
        let access = Access { key, value: key.low_bytes(value) };
        match self.next_write(access) {
            Some(step) => drop(self.advance_by(step)),
            None => {
                self.differs(Why::Write(access));
                if let Some(step) = self.find(|run| run.key == key && self.matches(run, access)) {
                    self.advance_by(step);
                }
            }
        }
        self.driver.add(access, false, 1);
    }

    /// The driver reads elements of a string, as many as are next. Returns their number.
    pub fn read_elements(&mut self, port: u16, size: u8, data: &mut [u8]) -> usize {
        let key = Key { port, size, direction: Direction::In };
        let Some((run, count)) = self.next_elements(key, data.len() / usize::from(size)) else {
            return 0;
        };
        let len = count as usize * usize::from(size);
        data[..len].copy_from_slice(self.recording.elements(&run, self.done, count));
        self.pass_elements(&run, count);
        count as usize
    }

    /// The driver writes elements of a string. Returns how many of them are the next ones.
    pub fn write_elements(&mut self, port: u16, size: u8, data: &[u8]) -> usize {
        let key = Key { port, size, direction: Direction::Out };
        let Some((run, most)) = self.next_elements(key, data.len() / usize::from(size)) else {
            return 0;
        };
        let size = usize::from(size);
        let recorded = self.recording.elements(&run, self.done, most);
        let pairs = data.chunks_exact(size).zip(recorded.chunks_exact(size));
        let count = pairs.take_while(|(written, recorded)| written == recorded).count();
        if count > 0 {
            self.pass_elements(&run, count as u32);
        }
        count
    }

    /// The string at the place, if it is of this kind, and how many of `most` elements it has there.
    fn next_elements(&self, key: Key, most: usize) -> Option<(Run, u32)> {
        let Some(&Step::Run(run)) = self.recording.steps.get(self.at) else { return None };
        let left = run.count - self.done;
        let count = u32::try_from(most).unwrap_or(u32::MAX).min(left);
        (run.is_string && run.key == key && count > 0).then_some((run, count))
    }

    fn pass_elements(&mut self, run: &Run, count: u32) {
        let value = self.recording.value(run, self.done + count - 1);
        self.driver.add(Access { key: run.key, value }, true, count);
        self.pass(count);
        self.flush_irqs();
    }

    /// The step of a read that is next, perhaps after reads that repeat their last values.
    fn next_read(&self, key: Key) -> Option<usize> {
        for (step, run) in self.runs_ahead() {
            if run.key == key {
                return Some(step);
            }
            let is_repeated = run.key.direction == Direction::In
                && !self.recording.is_data(run.key)
                && self
                    .last
                    .get(&run.key)
                    .is_some_and(|last| last.value == self.recording.value(run, 0));
            if !is_repeated {
                return None;
            }
        }
        None
    }

    /// The step of the next write, if it is this one. Only data may not be left out before it.
    fn next_write(&self, access: Access) -> Option<usize> {
        for (step, run) in self.runs_ahead() {
            if run.key.direction == Direction::Out {
                return (run.key == access.key && self.matches_next(step, run, access))
                    .then_some(step);
            }
            if self.recording.is_data(run.key) {
                return None;
            }
        }
        None
    }

    /// Returns true if the access of a run that is next has this value.
    fn matches_next(&self, step: usize, run: &Run, access: Access) -> bool {
        let index = if step == self.at { self.done } else { 0 };
        self.recording.value(run, index) == access.value
    }

    /// Returns true if the first access of a run has this value.
    fn matches(&self, run: &Run, access: Access) -> bool {
        self.recording.value(run, 0) == access.value
    }

    /// The runs from the place on, as far as the player looks.
    fn runs_ahead(&self) -> impl Iterator<Item = (usize, &Run)> {
        let ahead = self.recording.steps.iter().enumerate().skip(self.at).take(LOOK_AHEAD);
        ahead.filter_map(|(step, what)| match what {
            Step::Run(run) => Some((step, run)),
            Step::Irq { .. } => None,
        })
    }

    /// A later step, not that of the place.
    fn find(&self, is_it: impl Fn(&Run) -> bool) -> Option<usize> {
        self.runs_ahead().find(|&(step, run)| step > self.at && is_it(run)).map(|(step, _)| step)
    }

    /// A read that is not next. Returns what the port has at this place.
    fn extra_read(&mut self, key: Key) -> u32 {
        let before_write = |player: &Player| {
            let mut ahead =
                player.runs_ahead().take_while(|(_, run)| run.key.direction == Direction::In);
            ahead.find(|(_, run)| run.key == key).map(|(step, run)| (step, *run))
        };
        if self.recording.is_data(key) {
            self.differs(Why::Data(key));
            return match before_write(self) {
                Some((step, _)) => self.advance_by(step),
                None => key.low_bytes(u32::MAX),
            };
        }
        let is_over = self.at == self.recording.steps.len();
        self.waited = if is_over { 0 } else { self.waited.saturating_add(1) };
        if self.waited == WAITS_IN_VAIN {
            self.differs(Why::Wait(key));
            if let Some(step) = self.find(|run| run.key == key) {
                return self.advance_by(step);
            }
        }
        let last = self.last.get(&key).copied();
        let fresh = last.filter(|last| last.writes == self.writes);
        let soon = || before_write(self).map(|(_, run)| self.recording.value(&run, 0));
        match fresh.map(|last| last.value).or_else(soon).or(last.map(|last| last.value)) {
            Some(value) => {
                self.counts.extra += 1;
                value
            }
            None => {
                self.differs(Why::Read(key));
                key.low_bytes(u32::MAX)
            }
        }
    }

    /// Advances beyond the first access of a step that is left. Returns its value.
    fn advance_by(&mut self, step: usize) -> u32 {
        while self.at < step {
            match self.recording.steps[self.at] {
                Step::Irq { line, level } => {
                    self.irqs.push((line, level));
                    self.at += 1;
                }
                Step::Run(run) => {
                    let left = run.count - self.done;
                    self.counts.left_out += u64::from(left);
                    self.pass(left);
                }
            }
        }
        let Step::Run(run) = self.recording.steps[step] else { return 0 };
        let value = self.recording.value(&run, self.done);
        self.pass(1);
        self.flush_irqs();
        value
    }

    /// Passes accesses of the run at the place.
    fn pass(&mut self, count: u32) {
        let Step::Run(run) = self.recording.steps[self.at] else { return };
        self.counts.passed += u64::from(count);
        self.waited = 0;
        let end = self.done + count;
        match run.key.direction {
            Direction::Out => self.writes += u64::from(count),
            Direction::In => {
                let value = self.recording.value(&run, end - 1);
                self.last.insert(run.key, LastRead { value, writes: self.writes });
            }
        }
        self.done = end;
        if self.done == run.count {
            self.at += 1;
            self.done = 0;
        }
    }

    /// Makes the changes of lines that come before the next access.
    fn flush_irqs(&mut self) {
        while let Some(&Step::Irq { line, level }) = self.recording.steps.get(self.at) {
            self.irqs.push((line, level));
            self.at += 1;
        }
    }

    #[cold]
    fn differs(&mut self, why: Why) {
        self.counts.differences += 1;
        if self.first_difference.is_none() {
            self.first_difference = Some(self.counts.passed);
            let must_come = |run: &Run| match why {
                Why::Write(_) => {
                    run.key.direction == Direction::Out || self.recording.is_data(run.key)
                }
                Why::Data(_) | Why::Read(_) | Why::Wait(_) => true,
            };
            let next = self.runs_ahead().find(|(_, run)| must_come(run)).map(|(step, _)| step);
            let recorded = Surroundings::of(&self.recording, (self.at, self.done), next);
            let passed = self.counts.passed;
            let driver = self.driver.texts();
            let difference =
                Difference { why, passed, total: self.recording.total, recorded, driver };
            self.difference = Some(Box::new(difference));
        }
    }
}
