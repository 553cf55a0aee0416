//! The accesses and values of a trace over time, in a bounded number of equal periods.

use std::collections::{BTreeMap, HashMap};

use pvio_x86::{Direction, Port};

use crate::stats::trace::{CallEvent, Code, Event, InsnEvent, Stage, What, WindowEvent};

/// Maximum number of periods. If more time passes, periods are joined in pairs.
pub const PERIODS: usize = 256;

/// The first period, in nanoseconds. Later ones are this, times a power of 2.
const SHORTEST: u64 = 1 << 10;

/// Maximum number of ports and directions whose values are kept.
const MAX_VALUES: usize = 1024;

/// Maximum number of spans of windows. Later ones are left out.
const MAX_SPANS: usize = 1000;

/// Accesses and values over time.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// True if times are the guest's, false if they are the host's.
    is_guest_clock: bool,
    /// The times of the first and the last event, in nanoseconds.
    span: Option<(u64, u64)>,
    /// The length of a period is [`SHORTEST`] times 2 to the power of this.
    doublings: u32,
    /// The accesses to each port, by period.
    ports: BTreeMap<Port, Vec<i64>>,
    values: BTreeMap<(Port, Direction), PortValues>,
    windows: Vec<WindowSpan>,
    /// The port and the instruction of each stream's last access, if that was a read.
    last_reads: HashMap<u32, (Port, Code)>,
    /// Reads that followed a read of the same port by the same instruction directly.
    polls: BTreeMap<Port, u64>,
}

/// The values at a port in one direction, by period.
#[derive(Clone, Debug, Default)]
pub struct PortValues {
    /// The number of accesses with a known value.
    pub accesses: u64,
    /// The lowest and the highest value in each period; `None` if there was none.
    pub ranges: Vec<Option<(u32, u32)>>,
}

impl PortValues {
    /// The lowest and the highest value; `None` if there is none.
    pub fn range(&self) -> Option<(u32, u32)> {
        self.ranges.iter().copied().flatten().reduce(union)
    }
}

/// The time of a window between a begin and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowSpan {
    /// The window's name.
    pub name: String,
    /// When it began, in nanoseconds.
    pub begin: u64,
    /// When it ended; `None` if it was open at the end of the trace.
    pub end: Option<u64>,
}

fn union(one: (u32, u32), other: (u32, u32)) -> (u32, u32) {
    (one.0.min(other.0), one.1.max(other.1))
}

impl Timeline {
    /// Adds an event of a stream.
    pub fn add(&mut self, event: &Event, stream: u32) {
        if self.span.is_none() {
            self.is_guest_clock = event.guest.is_some();
        }
        let time = if self.is_guest_clock { event.guest } else { None }.unwrap_or(event.host);
        let (first, last) = self.span.unwrap_or((time, time));
        // Clocks of several vCPUs may differ a little.
        let time = time.max(first);
        self.span = Some((first, last.max(time)));
        while (time - first) / self.period() >= PERIODS as u64 {
            self.join();
        }
        let index = ((time - first) / self.period()) as usize;
        match &event.what {
            What::Insn(insn) => {
                let by = match insn.stage {
                    Stage::Executed
                    | Stage::ResumedAndExecuted
                    | Stage::Element { .. }
                    | Stage::UnverifiedBecomesExecuted => 1,
                    Stage::ExecutedBecomesUnverified | Stage::ExecutedBecomesExit => -1,
                    _ => return,
                };
                let Some(port) = insn.port else { return };
                self.count(port, index, by);
                self.poll(insn, port, stream);
                if let Some(value) = insn.value.filter(|_| by > 0) {
                    self.value(port, insn.form.direction(), index, value);
                }
            }
            What::Call(CallEvent::Access { call, port, value, .. }) => {
                self.count(*port, index, 1);
                self.last_reads.remove(&stream);
                if let Some((direction, _)) = call.port_io() {
                    self.value(*port, direction, index, *value);
                }
            }
            What::Window(WindowEvent::Began(name), _) => {
                if self.windows.len() < MAX_SPANS {
                    let name = name.to_string();
                    self.windows.push(WindowSpan { name, begin: time, end: None });
                }
            }
            What::Window(WindowEvent::Ended(name), _) => {
                let open = |span: &&mut WindowSpan| span.end.is_none() && span.name == **name;
                if let Some(span) = self.windows.iter_mut().rev().find(open) {
                    span.end = Some(time);
                }
            }
            What::Window(WindowEvent::Reset, _) => self.reset(time),
            What::Call(CallEvent::Ended { .. })
            | What::Filter(_)
            | What::Off
            | What::Irq { .. } => {}
        }
    }

    /// Forgets all that the statistics forget: open windows begin here.
    fn reset(&mut self, time: u64) {
        self.ports.clear();
        self.values.clear();
        self.polls.clear();
        self.windows.retain(|span| span.end.is_none());
        self.windows.iter_mut().for_each(|span| span.begin = time);
    }

    /// Finds out whether an access repeats the one before, as in a loop that waits. String instructions do not wait.
    fn poll(&mut self, insn: &InsnEvent, port: Port, stream: u32) {
        let is_read = insn.stage == Stage::Executed && insn.form.direction() == Direction::In;
        let read = is_read.then_some((port, insn.code));
        let last = match read {
            Some(read) => self.last_reads.insert(stream, read),
            None => self.last_reads.remove(&stream),
        };
        if read.is_some() && last == read {
            *self.polls.entry(port).or_default() += 1;
        }
    }

    fn count(&mut self, port: Port, index: usize, by: i64) {
        let counts = self.ports.entry(port).or_default();
        if counts.len() <= index {
            counts.resize(index + 1, 0);
        }
        counts[index] = counts[index].saturating_add(by);
    }

    fn value(&mut self, port: Port, direction: Direction, index: usize, value: u32) {
        let key = (port, direction);
        if self.values.len() >= MAX_VALUES && !self.values.contains_key(&key) {
            return;
        }
        let values = self.values.entry(key).or_default();
        values.accesses += 1;
        if values.ranges.len() <= index {
            values.ranges.resize(index + 1, None);
        }
        let range = &mut values.ranges[index];
        *range = Some(range.map_or((value, value), |range| union(range, (value, value))));
    }

    /// Doubles the period.
    fn join(&mut self) {
        self.doublings += 1;
        for counts in self.ports.values_mut() {
            *counts = counts.chunks(2).map(|pair| pair.iter().sum()).collect();
        }
        for values in self.values.values_mut() {
            let pairs = values.ranges.chunks(2);
            values.ranges =
                pairs.map(|pair| pair.iter().copied().flatten().reduce(union)).collect();
        }
    }

    /// The clock of the times: `guest` or `host`.
    pub fn clock(&self) -> &'static str {
        if self.is_guest_clock { "guest" } else { "host" }
    }

    /// The time of the first event, in nanoseconds; `None` if there is no event.
    pub fn start(&self) -> Option<u64> {
        self.span.map(|(first, _)| first)
    }

    /// The length of a period, in nanoseconds.
    pub fn period(&self) -> u64 {
        SHORTEST << self.doublings
    }

    /// The number of periods until the last event.
    pub fn periods(&self) -> usize {
        self.span.map_or(0, |(first, last)| ((last - first) / self.period()) as usize + 1)
    }

    /// The accesses to each port, by period. Missing periods at the end have none.
    pub fn ports(&self) -> impl Iterator<Item = (Port, &[i64])> {
        self.ports.iter().map(|(port, counts)| (*port, &counts[..]))
    }

    /// The values at each port, by direction.
    pub fn values(&self) -> impl Iterator<Item = (Port, Direction, &PortValues)> {
        self.values.iter().map(|(&(port, direction), values)| (port, direction, values))
    }

    /// Reads by port that followed a read of the same port by the same instruction directly.
    pub fn polls(&self) -> impl Iterator<Item = (Port, u64)> {
        self.polls.iter().map(|(port, count)| (*port, *count))
    }

    /// When windows were open, in the order of their begins.
    pub fn windows(&self) -> &[WindowSpan] {
        &self.windows
    }
}

#[cfg(test)]
mod tests {
    use pvio_x86::PortForm;

    use super::*;

    fn event(time: u64, what: What) -> Event {
        Event { host: time + 5, guest: Some(time), what }
    }

    fn access(time: u64, port: u16, value: u32, stage: Stage) -> Event {
        let insn = InsnEvent {
            stage,
            code: Code::Site(0),
            form: PortForm::OutDxAl.into(),
            port: Some(Port(port)),
            value: Some(value),
            stack: None,
            process: None,
        };
        event(time, What::Insn(insn))
    }

    #[test]
    fn any_time_fits_in_the_periods_and_no_access_is_lost() {
        let mut timeline = Timeline::default();
        let mut random = gaps();
        let mut time = 1_000_000_000;
        for _ in 0..2000 {
            time += random();
            timeline.add(&access(time, 0x80, 7, Stage::Executed), 0);
        }
        let (_, counts) = timeline.ports().next().unwrap();
        assert_eq!(counts.iter().sum::<i64>(), 2000);
        assert!((PERIODS / 2..=PERIODS).contains(&timeline.periods()), "{}", timeline.periods());
        let covered = timeline.period() * timeline.periods() as u64;
        assert!(covered >= time - timeline.start().unwrap(), "{covered}");
        // A jump of hours.
        timeline.add(&access(time + 20_000_000_000_000, 0x80, 9, Stage::Executed), 0);
        let (_, counts) = timeline.ports().next().unwrap();
        assert_eq!((counts[0], counts.iter().sum::<i64>()), (2000, 2001));
        let (_, _, values) = timeline.values().next().unwrap();
        assert_eq!((values.ranges[0], values.range()), (Some((7, 7)), Some((7, 9))));
    }

    /// A generator of times between two events: short ones, and now and then a long one.
    fn gaps() -> impl FnMut() -> u64 {
        let mut state = 1_u64;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) * if state >> 60 == 0 { 1000 } else { 1 }
        }
    }

    #[test]
    fn attempts_that_made_no_access_after_all_are_taken_back() {
        let mut timeline = Timeline::default();
        for stage in [Stage::Executed, Stage::Executed, Stage::Faulted, Stage::ExecutedBecomesExit]
        {
            timeline.add(&access(10, 0x80, 1, stage), 0);
        }
        assert_eq!(timeline.ports().map(|(_, counts)| counts[0]).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_reset_forgets_accesses_and_begins_open_windows_again() {
        let mut timeline = Timeline::default();
        let window = |event: WindowEvent| What::Window(event, None);
        timeline.add(&event(10, window(WindowEvent::Began("a".into()))), 0);
        timeline.add(&event(11, window(WindowEvent::Ended("a".into()))), 0);
        timeline.add(&event(12, window(WindowEvent::Began("b".into()))), 0);
        timeline.add(&access(13, 0x80, 1, Stage::Executed), 0);
        timeline.add(&event(14, window(WindowEvent::Reset)), 0);
        assert_eq!((timeline.ports().count(), timeline.values().count()), (0, 0));
        let open = WindowSpan { name: "b".into(), begin: 14, end: None };
        assert_eq!(timeline.windows(), [open]);
    }

    #[test]
    fn polls_are_reads_in_a_row_by_one_instruction_of_one_vcpu() {
        let read = |port: u16, site| {
            let mut event = access(1, port, 7, Stage::Executed);
            if let What::Insn(insn) = &mut event.what {
                (insn.form, insn.code) = (PortForm::InAlDx.into(), Code::Site(site));
            }
            event
        };
        let mut timeline = Timeline::default();
        for _ in 0..3 {
            timeline.add(&read(0x61, 1), 0);
            // Another vCPU does not end the row.
            timeline.add(&read(0x60, 1), 1);
        }
        timeline.add(&read(0x61, 2), 0);
        timeline.add(&access(1, 0x61, 2, Stage::Executed), 0);
        timeline.add(&read(0x61, 2), 0);
        assert_eq!(timeline.polls().collect::<Vec<_>>(), [(Port(0x60), 2), (Port(0x61), 2)]);
    }
}
