//! Values at ports over time: a small chart for each port and direction.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use maud::{Markup, html};
use pvio_x86::{Direction, Port};

use super::chart::shortened;
use super::time_axis::Axis;
use crate::stats::text_table::{number, printable};
use crate::stats::{Snapshot, ValueRow};
use crate::trace::Timeline;

/// Maximum number of charts.
const MAX_CHARTS: usize = 6;

/// Maximum number of marks in a chart of a dump: those with the most accesses.
const MAX_MARKS: usize = 500;

/// Height of the text above the drawing, in pixels.
const TOP: usize = 38;

/// Height of the drawing, and the distance from its borders to the extreme values, in pixels.
const HEIGHT: usize = 90;
const MARGIN: f64 = 5.0;

/// A value, or a range of values, in a span of time.
#[derive(Clone, Copy)]
struct Mark {
    /// Nanoseconds.
    times: (u64, u64),
    values: (u32, u32),
    /// True if nothing is known between the two times: both ends are drawn, and a thin line between them.
    is_sparse: bool,
}

/// The values at a port in one direction.
struct Series {
    port: Port,
    direction: Direction,
    accesses: u64,
    marks: Vec<Mark>,
}

/// Renders the values of a trace, or else those of a dump with the option `values`.
pub fn charts(dump: &Snapshot, timeline: Option<&Timeline>) -> Markup {
    let traced = timeline.map(of_trace).unwrap_or_default();
    let (series, axis, clock, about) = match timeline.and_then(Axis::of_trace) {
        Some(axis) => (
            traced,
            axis,
            timeline.map_or("", Timeline::clock),
            "A mark spans the values of a step of time.",
        ),
        None => {
            let Some(axis) = axis_of_dump(dump) else { return html! {} };
            let clock = dump.values_clock.as_deref().unwrap_or("unknown");
            let about = "A line connects the first and the last access with a value.";
            (of_dump(dump), axis, clock, about)
        }
    };
    html! {
        @if !series.is_empty() {
            section.wide {
                h2 { "Values over time" }
                p.legend { "By the " (printable(clock)) "'s clock. " (about) }
                div.values {
                    @for series in &series { (chart(dump, series, &axis)) }
                }
            }
        }
    }
}

/// The busiest ports of a trace whose values changed.
fn of_trace(timeline: &Timeline) -> Vec<Series> {
    let start = timeline.start().unwrap_or(0);
    let period = timeline.period();
    let changing = timeline
        .values()
        .filter(|(_, _, values)| values.range().is_some_and(|(lowest, highest)| lowest < highest));
    let series = changing.map(|(port, direction, values)| {
        let ranges = values.ranges.iter().enumerate();
        let marks = ranges.filter_map(|(index, range)| {
            let begin = start + index as u64 * period;
            let times = (begin, begin + period);
            Some(Mark { times, values: (*range)?, is_sparse: false })
        });
        Series { port, direction, accesses: values.accesses, marks: marks.collect() }
    });
    busiest(series.collect())
}

fn axis_of_dump(dump: &Snapshot) -> Option<Axis> {
    let times = |row: &ValueRow| Some((row.first?.time_ns, row.last?.time_ns));
    let spans = dump.values.iter().filter_map(times);
    let (start, end) = spans.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))?;
    Some(Axis::new(start, end))
}

/// The busiest ports of a dump with values.
fn of_dump(dump: &Snapshot) -> Vec<Series> {
    let mut ports: BTreeMap<(Port, Direction), Vec<&ValueRow>> = BTreeMap::new();
    for row in &dump.values {
        ports.entry((row.port, row.dir)).or_default().push(row);
    }
    let series = ports.into_iter().map(|((port, direction), mut rows)| {
        let accesses = rows.iter().map(|row| row.counts.accesses).sum();
        rows.sort_by_key(|row| Reverse(row.counts.accesses));
        let marks = rows.iter().take(MAX_MARKS).filter_map(|row| {
            let (times, value) = ((row.first?.time_ns, row.last?.time_ns), row.value?);
            Some(Mark { times, values: (value, value), is_sparse: true })
        });
        Series { port, direction, accesses, marks: marks.collect() }
    });
    busiest(series.filter(|series| !series.marks.is_empty()).collect())
}

fn busiest(mut series: Vec<Series>) -> Vec<Series> {
    series.sort_by_key(|series| Reverse(series.accesses));
    series.truncate(MAX_CHARTS);
    series
}

fn chart(dump: &Snapshot, series: &Series, axis: &Axis) -> Markup {
    let values = series.marks.iter().map(|mark| mark.values);
    let range = values.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
    let (lowest, highest) = range.unwrap_or((0, 0));
    let title = title(dump, series);
    let described = format!(
        "{title}: values from {lowest:#x} to {highest:#x}, {} accesses, from {} s to {} s",
        number(series.accesses),
        axis.seconds(series.marks.iter().map(|mark| mark.times.0).min().unwrap_or(0)),
        axis.seconds(series.marks.iter().map(|mark| mark.times.1).max().unwrap_or(0)),
    );
    let y = |value: u32| {
        let span = f64::from(highest - lowest).max(1.0);
        let room = HEIGHT as f64 - 2.0 * MARGIN;
        TOP as f64 + MARGIN + room - f64::from(value - lowest) * room / span
    };
    html! {
        div.chart {
            svg role="img" aria-label=(described) width="100%" height=(TOP + HEIGHT + Axis::HEIGHT) {
                text x="0" y="14" { (shortened(&title)) }
                text.value x="0" y="31" { (format!("{lowest:#x} to {highest:#x}")) }
                rect.track x="0" y=(TOP) width="100%" height=(HEIGHT) {}
                @for mark in &series.marks { (mark_of(mark, axis, y)) }
                (axis.render(TOP + HEIGHT))
            }
        }
    }
}

/// The port's name, number and direction.
fn title(dump: &Snapshot, series: &Series) -> String {
    let row = dump.ports.iter().find(|row| row.port == series.port);
    let name = row.and_then(|row| row.name.as_deref()).map(|name| format!("{name}, "));
    printable(&format!("{}{} {}", name.unwrap_or_default(), series.port, series.direction))
}

fn mark_of(mark: &Mark, axis: &Axis, y: impl Fn(u32) -> f64) -> Markup {
    let (from, to) = (axis.percent(mark.times.0), axis.percent(mark.times.1));
    let (bottom, top) = (y(mark.values.0), y(mark.values.1));
    let percent = |x: f64| format!("{x:.2}%");
    html! {
        @if mark.is_sparse {
            line x1=(percent(from)) x2=(percent(to)) y1=(format!("{top:.1}")) y2=(format!("{top:.1}")) {}
            circle.s0 cx=(percent(from)) cy=(format!("{top:.1}")) r="2.5" {}
            @if to > from { circle.s0 cx=(percent(to)) cy=(format!("{top:.1}")) r="2.5" {} }
        } @else {
            rect.s0 x=(percent(from)) y=(format!("{:.1}", top - 1.0)) width=(percent((to - from).max(0.3)))
                height=(format!("{:.1}", bottom - top + 2.0)) {}
        }
    }
}
