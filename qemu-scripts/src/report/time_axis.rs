//! The axis of charts over time.

use maud::{Markup, html};

use crate::trace::Timeline;

/// A span of time that fills the width of a chart.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// Nanoseconds.
    start: u64,
    len: u64,
}

impl Axis {
    /// Height of the axis, in pixels.
    pub const HEIGHT: usize = 22;

    /// Makes an axis from one time to another, in nanoseconds.
    pub fn new(start: u64, end: u64) -> Axis {
        Axis { start, len: end.saturating_sub(start).max(1) }
    }

    /// Makes the axis of all periods of a trace; `None` if it has none.
    pub fn of_trace(timeline: &Timeline) -> Option<Axis> {
        let len = timeline.period() * timeline.periods() as u64;
        Some(Axis { start: timeline.start()?, len })
    }

    /// The time at the left, in nanoseconds.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The position of a time, in percent of the width.
    pub fn percent(&self, time: u64) -> f64 {
        let time = time.saturating_sub(self.start).min(self.len);
        time as f64 * 100.0 / self.len as f64
    }

    /// Formats a time as seconds, with the places that the length of the axis needs.
    pub fn seconds(&self, time: u64) -> String {
        let places = match self.len {
            0..100_000 => 9,
            100_000..100_000_000 => 6,
            _ => 3,
        };
        format!("{:.places$}", time as f64 / 1e9)
    }

    /// Renders the axis, with the times at its beginning, in its middle and at its end.
    pub fn render(&self, top: usize) -> Markup {
        let ends = [("0", "start", 0), ("50%", "middle", self.len / 2), ("100%", "end", self.len)];
        html! {
            @for (x, anchor, time) in ends {
                text.value x=(x) y=(top + 14) text-anchor=(anchor) { (self.seconds(self.start + time)) " s" }
            }
        }
    }
}

/// Formats a length of time, with a unit that suits it.
pub fn length(nanos: u64) -> String {
    match nanos {
        0..10_000 => format!("{nanos} ns"),
        10_000..10_000_000 => format!("{} µs", nanos / 1000),
        10_000_000..10_000_000_000 => format!("{} ms", nanos / 1_000_000),
        _ => format!("{} s", nanos / 1_000_000_000),
    }
}
