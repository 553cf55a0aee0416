//! Bars side by side: for each label a bar of every series, such as the accesses of several windows to one port.

use maud::{Markup, html};

use super::chart::shortened;
use crate::stats::text_table::{number, printable};

/// Maximum number of series: the page has so many colours.
pub const MAX_SERIES: usize = 6;

/// Height of a bar, and the distance between two, in pixels.
const BAR: usize = 12;
const PITCH: usize = 15;

/// Height of a group's label, with the gap before it, in pixels.
const LABEL: usize = 26;

/// A label, and the count of each series.
#[derive(Clone, Debug)]
pub struct Group {
    /// The name of the counted thing.
    pub label: String,
    /// The counts, in the order of the series.
    pub counts: Vec<u64>,
}

/// Renders groups in their order, with a note below.
pub fn grouped_chart(title: &str, series: &[String], groups: &[Group], note: &str) -> Markup {
    let counts = groups.iter().flat_map(|group| &group.counts);
    let longest = counts.copied().max().unwrap_or(0).max(1);
    let height = LABEL + series.len() * PITCH;
    html! {
        section.chart {
            h2 { (title) }
            p.legend {
                @for (index, name) in series.iter().enumerate() {
                    span { span class={ "key s" (index) } {} (shortened(name)) }
                }
            }
            svg role="img" aria-label=(description(title, series, groups)) width="100%" height=(groups.len() * height) {
                @for (index, group) in groups.iter().enumerate() {
                    text x="0" y=(index * height + 18) { (shortened(&group.label)) }
                    @for (place, (name, &count)) in series.iter().zip(&group.counts).enumerate() {
                        (bar(place, name, group, count, longest, index * height + LABEL + place * PITCH))
                    }
                }
            }
            @if !note.is_empty() { p.note { (note) } }
        }
    }
}

/// Renders a bar. Its number follows it.
fn bar(place: usize, name: &str, group: &Group, count: u64, longest: u64, top: usize) -> Markup {
    let width = count as f64 * 75.0 / longest as f64;
    html! {
        g {
            title { (printable(&group.label)) ", " (printable(name)) ": " (number(count)) }
            rect class={ "s" (place) } x="0" y=(top) width={ (format!("{width:.2}")) "%" } height=(BAR) {}
            text.value x={ (format!("{width:.2}")) "%" } dx="6" y=(top + BAR - 1) { (number(count)) }
        }
    }
}

/// Describes the chart for screen readers.
fn description(title: &str, series: &[String], groups: &[Group]) -> String {
    let groups = groups.iter().map(|group| {
        let counts = series.iter().zip(&group.counts);
        let counts: Vec<String> =
            counts.map(|(name, &count)| format!("{} {}", printable(name), number(count))).collect();
        format!("{}: {}", printable(&group.label), counts.join(", "))
    });
    format!("{title}. {}", groups.collect::<Vec<_>>().join("; "))
}
