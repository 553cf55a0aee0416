//! Bar charts in SVG.
//!
//! Positions are percentages: a chart fits every screen width, and its text keeps its size.

use maud::{Markup, html};

use crate::stats::text_table::{number, percent, printable};

/// A labelled bar with one count for each series of the chart.
#[derive(Clone, Debug)]
pub struct Bar {
    /// The name of the counted thing.
    pub label: String,
    /// The counts, in the order of the chart's series.
    pub counts: Vec<u64>,
}

impl Bar {
    fn total(&self) -> u64 {
        self.counts.iter().copied().fold(0, u64::saturating_add)
    }
}

/// Maximum number of bars. The last one stands for all others.
const MAX_BARS: usize = 12;

/// Maximum length of a label, in characters. The bar's title has all of it.
const MAX_LABEL: usize = 34;

/// Distance between bars, in pixels.
const PITCH: usize = 40;

/// Renders a chart of the longest bars, in descending order.
///
/// `whole` is the count that is 100 %.
pub fn chart(title: &str, series: &[&str], mut bars: Vec<Bar>, whole: u64) -> Markup {
    bars.retain(|bar| bar.total() > 0);
    bars.sort_by_key(|bar| std::cmp::Reverse(bar.total()));
    let bars = with_rest(bars);
    render(title, series, &bars, whole)
}

/// Renders a chart whose bars keep their order. `whole` is the count that is 100 %.
pub fn ordered_chart(title: &str, series: &[&str], bars: Vec<Bar>, whole: u64) -> Markup {
    render(title, series, &with_rest(bars), whole)
}

fn with_rest(mut bars: Vec<Bar>) -> Vec<Bar> {
    if bars.len() > MAX_BARS {
        let rest = bars.split_off(MAX_BARS - 1);
        let mut sum = Bar { label: format!("{} others", rest.len()), counts: Vec::new() };
        for bar in &rest {
            sum.counts.resize(bar.counts.len(), 0);
            sum.counts.iter_mut().zip(&bar.counts).for_each(|(sum, count)| *sum += count);
        }
        bars.push(sum);
    }
    bars
}

fn render(title: &str, series: &[&str], bars: &[Bar], whole: u64) -> Markup {
    let longest = bars.iter().map(Bar::total).max().unwrap_or(0).max(1);
    let used: Vec<usize> =
        (0..series.len()).filter(|&index| bars.iter().any(|bar| bar.counts[index] > 0)).collect();
    html! {
        section.chart {
            h2 { (title) }
            @if series.len() > 1 {
                p.legend {
                    @for &index in &used {
                        span { span class={ "key s" (index) } {} (series[index]) }
                    }
                }
            }
            svg role="img" aria-label=(description(title, bars, whole)) width="100%" height=(bars.len() * PITCH) {
                @for (index, bar) in bars.iter().enumerate() {
                    (row(series, bar, index * PITCH, longest, whole))
                }
            }
        }
    }
}

fn row(series: &[&str], bar: &Bar, top: usize, longest: u64, whole: u64) -> Markup {
    let width = |count: u64| count as f64 * 100.0 / longest as f64;
    let mut start = 0.0;
    let mut parts = Vec::new();
    for (index, &count) in bar.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        parts.push((index, start, width(count)));
        start += width(count);
    }
    let value = format!("{} · {} %", number(bar.total()), percent(bar.total(), whole));
    let detail = series.iter().zip(&bar.counts).filter(|(_, count)| **count > 0);
    let detail: Vec<String> =
        detail.map(|(series, &count)| format!("{series}: {}", number(count))).collect();
    html! {
        g {
            title { (printable(&bar.label)) ": " (value) " (" (detail.join(", ")) ")" }
            text.label x="0" y=(top + 15) { (shortened(&bar.label)) }
            text.value x="100%" y=(top + 15) text-anchor="end" { (value) }
            rect.track x="0" y=(top + 21) width="100%" height="10" rx="2" {}
            @for (index, start, width) in parts {
                rect class={ "s" (index) } x={ (format!("{start:.2}")) "%" } y=(top + 21)
                    width={ (format!("{width:.2}")) "%" } height="10" {}
            }
        }
    }
}

pub(super) fn shortened(label: &str) -> String {
    let label = printable(label);
    match label.char_indices().nth(MAX_LABEL) {
        Some((end, _)) => format!("{}…", &label[..end]),
        None => label,
    }
}

/// Describes the chart for screen readers.
fn description(title: &str, bars: &[Bar], whole: u64) -> String {
    let bars = bars.iter().map(|bar| {
        let (count, share) = (number(bar.total()), percent(bar.total(), whole));
        format!("{} {count}, {share} %", printable(&bar.label))
    });
    format!("{title}: {}", bars.collect::<Vec<_>>().join("; "))
}
