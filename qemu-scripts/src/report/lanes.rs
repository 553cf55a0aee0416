//! Accesses over time: a lane for each port or device, and one for each window.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use maud::{Markup, html};
use pvio_x86::Port;

use super::chart::shortened;
use super::time_axis::{Axis, length};
use crate::stats::text_table::{number, printable};
use crate::stats::{PortRow, Snapshot};
use crate::trace::Timeline;

/// Maximum number of lanes of ports and devices. The last one stands for all others.
const MAX_LANES: usize = 12;

/// Maximum number of lanes of windows.
const MAX_WINDOWS: usize = 6;

/// Height of a lane's label and of its picture, and the gap after it, in pixels.
const LABEL: usize = 18;
const HEIGHT: usize = 26;
const GAP: usize = 8;

/// Height of the picture of a window.
const WINDOW: usize = 8;

/// The accesses to one port or device, by period.
struct Lane {
    name: String,
    counts: Vec<u64>,
}

impl Lane {
    fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Renders the lanes of a trace. A trace without accesses renders to nothing.
pub fn chart(dump: &Snapshot, timeline: &Timeline) -> Markup {
    let Some(axis) = Axis::of_trace(timeline) else { return html! {} };
    let lanes = lanes(dump, timeline);
    let windows = windows(timeline);
    let top = windows.len() * (LABEL + WINDOW + GAP);
    let bottom = top + lanes.len() * (LABEL + HEIGHT + GAP);
    html! {
        @if !lanes.is_empty() {
            section.wide {
                h2 { "Accesses over time" }
                p.legend {
                    "By the " (timeline.clock()) "'s clock, in steps of " (length(timeline.period()))
                    ". Each row has its own scale: its highest step is as high as the row."
                }
                svg role="img" aria-label=(description(&lanes, &axis, timeline)) width="100%" height=(bottom + Axis::HEIGHT) {
                    @for (index, (name, spans)) in windows.iter().enumerate() {
                        (window_lane(name, spans, &axis, index * (LABEL + WINDOW + GAP)))
                    }
                    @for (index, lane) in lanes.iter().enumerate() {
                        (port_lane(lane, timeline.periods(), top + index * (LABEL + HEIGHT + GAP)))
                    }
                    (axis.render(bottom))
                }
            }
        }
    }
}

/// Adds up the accesses by the ports' names, the busiest first.
fn lanes(dump: &Snapshot, timeline: &Timeline) -> Vec<Lane> {
    let named = |row: &PortRow| Some((row.port, row.name.as_deref()?.to_owned()));
    let names: HashMap<Port, String> = dump.ports.iter().filter_map(named).collect();
    let mut sums: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (port, counts) in timeline.ports() {
        let name = names.get(&port).cloned().unwrap_or_else(|| port.to_string());
        let sum = sums.entry(name).or_insert_with(|| vec![0; timeline.periods()]);
        for (sum, &count) in sum.iter_mut().zip(counts) {
            *sum += u64::try_from(count).unwrap_or(0);
        }
    }
    let mut lanes: Vec<Lane> =
        sums.into_iter().map(|(name, counts)| Lane { name, counts }).collect();
    lanes.retain(|lane| lane.total() > 0);
    lanes.sort_by_key(|lane| Reverse(lane.total()));
    if lanes.len() > MAX_LANES {
        let rest = lanes.split_off(MAX_LANES - 1);
        let counts =
            (0..timeline.periods()).map(|index| rest.iter().map(|l| l.counts[index]).sum());
        let counts = counts.collect();
        lanes.push(Lane { name: format!("{} others", rest.len()), counts });
    }
    lanes
}

/// The beginning and the end of a window, in nanoseconds; it has no end if it was open at the end of the trace.
type Span = (u64, Option<u64>);

/// The first windows, each with its spans.
fn windows(timeline: &Timeline) -> Vec<(&str, Vec<Span>)> {
    let mut windows: Vec<(&str, Vec<_>)> = Vec::new();
    for span in timeline.windows() {
        let spans = (span.begin, span.end);
        match windows.iter().position(|(name, _)| *name == span.name) {
            Some(index) => windows[index].1.push(spans),
            None if windows.len() < MAX_WINDOWS => windows.push((&span.name, vec![spans])),
            None => {}
        }
    }
    windows
}

fn window_lane(name: &str, spans: &[Span], axis: &Axis, top: usize) -> Markup {
    html! {
        text x="0" y=(top + LABEL - 5) { "window " (shortened(name)) }
        rect.track x="0" y=(top + LABEL) width="100%" height=(WINDOW) {}
        @for &(begin, end) in spans {
            @let (from, to) = (axis.percent(begin), end.map_or(100.0, |end| axis.percent(end)));
            // At least a line.
            rect.s2 x={ (format!("{from:.2}")) "%" } y=(top + LABEL) width={ (format!("{:.2}", (to - from).max(0.15))) "%" } height=(WINDOW) {
                title { "window " (printable(name)) ": " (axis.seconds(begin)) " s to " (end.map_or("the end".to_owned(), |end| axis.seconds(end) + " s")) }
            }
        }
    }
}

fn port_lane(lane: &Lane, periods: usize, top: usize) -> Markup {
    let highest = lane.counts.iter().copied().max().unwrap_or(0).max(1);
    let view = format!("0 0 {periods} {HEIGHT}");
    html! {
        g {
            title { (printable(&lane.name)) ": " (number(lane.total())) ", at most " (number(highest)) " in a step" }
            text x="0" y=(top + LABEL - 5) { (shortened(&lane.name)) }
            text.value x="100%" y=(top + LABEL - 5) text-anchor="end" { (number(lane.total())) }
            rect.track x="0" y=(top + LABEL) width="100%" height=(HEIGHT) {}
            svg x="0" y=(top + LABEL) width="100%" height=(HEIGHT) viewBox=(view) preserveAspectRatio="none" {
                path.s0 d=(steps(&lane.counts, highest)) {}
            }
        }
    }
}

/// The outline of bars without gaps. A count that is not 0 is at least a pixel high.
fn steps(counts: &[u64], highest: u64) -> String {
    let mut path = format!("M0 {HEIGHT}");
    let mut last = HEIGHT;
    for (index, &count) in counts.iter().enumerate() {
        let height = (count as f64 * HEIGHT as f64 / highest as f64).round() as usize;
        let top = HEIGHT - height.clamp(usize::from(count > 0), HEIGHT);
        if top != last {
            let _ = write!(path, "H{index}V{top}");
            last = top;
        }
    }
    let _ = write!(path, "H{}V{HEIGHT}Z", counts.len());
    path
}

/// Describes the chart for screen readers: each lane's total, and its busiest step.
fn description(lanes: &[Lane], axis: &Axis, timeline: &Timeline) -> String {
    let lanes = lanes.iter().map(|lane| {
        let busiest = lane.counts.iter().enumerate().rev().max_by_key(|(_, count)| **count);
        let (index, most) = busiest.map_or((0, 0), |(index, &count)| (index, count));
        let at = axis.start() + index as u64 * timeline.period();
        let name = printable(&lane.name);
        format!(
            "{name} {}, at most {} at {} s",
            number(lane.total()),
            number(most),
            axis.seconds(at)
        )
    });
    format!("Accesses over time: {}", lanes.collect::<Vec<_>>().join("; "))
}
