//! Draws the results as SVG pictures.

use std::path::Path;

use anyhow::{Context, Result};
use maud::{Markup, html};
use pvio_x86::PortForm;

use super::part::Part;
use super::report::Report;
use super::tables::each;
use super::{Cell, Mechanism};
use crate::dumps;
use crate::stats::text_table::number;

/// Width of a picture, in pixels.
const WIDTH: f64 = 760.0;

/// Space for labels at the left.
const LEFT: f64 = 130.0;

/// Space at the right, for a bar's number.
const RIGHT: f64 = 70.0;

/// Space for a title and a legend.
const TOP: f64 = 72.0;

/// Distance of two rows.
const PITCH: f64 = 24.0;

/// Mechanisms of the picture of parts.
const COMPARED: [Mechanism; 9] = [
    Mechanism::TrapChecked,
    Mechanism::Trap,
    Mechanism::TrapUser,
    Mechanism::Coalesced,
    Mechanism::Vc,
    Mechanism::Ve,
    Mechanism::Direct,
    Mechanism::Int,
    Mechanism::Batch,
];

/// Series of the picture of parts: a name, a colour and the parts. The rest is the guest's loop.
const SERIES: [(&str, &str, &[Part]); 7] = [
    ("decode and fetch", "#c0392b", &[Part::Decode, Part::Fetch, Part::GuestDecode]),
    ("walk of page tables", "#e08e45", &[Part::Walk]),
    ("guest's handler", "#8e5ea2", &[Part::Handler]),
    ("guest's call", "#c39bd3", &[Part::Call]),
    ("entry and exit", "#34699a", &[Part::Entry]),
    ("user space", "#76b3d8", &[Part::User]),
    ("the operation", "#5d8a66", &[Part::Emulate, Part::Device]),
];

/// Colour of what no series has.
const REST: &str = "#b8bcc2";

/// A picture.
#[derive(Clone, Debug)]
pub struct Plot {
    /// The file's name.
    pub name: &'static str,
    /// The file's contents.
    pub svg: String,
}

/// Draws all pictures. Without a workload, the picture of the workload is left out.
pub fn plots(report: &Report) -> Vec<Plot> {
    let mut plots = vec![
        Plot { name: "experiment-parts.svg", svg: parts(report) },
        Plot { name: "experiment-decode.svg", svg: decode(report) },
    ];
    plots.extend(workload(report).map(|svg| Plot { name: "experiment-workload.svg", svg }));
    plots
}

/// Makes the directory for pictures if it does not exist.
///
/// # Errors
///
/// Fails if it cannot be made.
pub fn make_directory(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("--plots {}: this directory cannot be made", directory.display()))
}

/// Writes all pictures to a directory.
///
/// # Errors
///
/// Fails if a file cannot be written.
pub fn write(report: &Report, directory: &Path) -> Result<()> {
    for plot in plots(report) {
        let path = directory.join(plot.name);
        dumps::write(&path, plot.svg.as_bytes(), &[]).context("--plots")?;
    }
    Ok(())
}

/// Draws a picture with a title, a subtitle or legend, and a number of rows.
fn picture(title: &str, rows: usize, legend: &Markup, body: &Markup) -> String {
    let height = TOP + PITCH * rows as f64 + 26.0;
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (WIDTH) " " (height) } width=(WIDTH) height=(height)
            role="img" aria-label=(title) font-family="sans-serif" font-size="12" fill="#222" {
            title { (title) }
            rect width=(WIDTH) height=(height) fill="#fff" {}
            text x="12" y="22" font-size="15" font-weight="bold" { (title) }
            (legend)
            (body)
        }
    };
    format!("{}\n", svg.into_string())
}

fn middle_of(row: usize) -> f64 {
    TOP + PITCH * (row as f64 + 0.5)
}

fn label(row: usize, text: &str) -> Markup {
    html! { text x=(LEFT - 8.0) y=(middle_of(row) + 4.0) text-anchor="end" { (text) } }
}

/// Draws a legend: names and colours, in two lines at most.
fn legend(entries: &[(&str, &str)]) -> Markup {
    let mut at = (12.0, 42.0);
    let mut placed = Vec::new();
    for &(name, colour) in entries {
        let width = 24.0 + 6.6 * name.len() as f64;
        if at.0 + width > WIDTH {
            at = (12.0, at.1 + 18.0);
        }
        placed.push((name, colour, at));
        at.0 += width;
    }
    html! {
        @for (name, colour, (x, y)) in placed {
            rect x=(decimal(x)) y=(y - 9.0) width="10" height="10" fill=(colour) {}
            text x=(decimal(x + 14.0)) y=(y) { (name) }
        }
    }
}

fn decimal(number: f64) -> String {
    format!("{number:.1}")
}

/// Instructions of one `out dx,al` by each mechanism, by part.
fn parts(report: &Report) -> String {
    let cell = Cell { form: PortForm::OutDxAl, elements: 1 };
    let rows: Vec<_> = COMPARED.iter().filter_map(|&way| report.metrics.get(way, cell)).collect();
    let longest = rows.iter().map(|row| row.each(row.total)).fold(1.0, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / longest;
    let body = html! {
        @for (index, row) in rows.iter().enumerate() {
            @let counts: Vec<u64> =
                SERIES.iter().map(|(_, _, parts)| parts.iter().map(|&part| row.part(part)).sum()).collect();
            @let rest = row.total - counts.iter().sum::<u64>();
            (label(index, row.mechanism.name()))
            @for (start, count, name, colour) in stacked(&counts, rest) {
                rect x=(decimal(LEFT + scale * row.each(start))) y=(middle_of(index) - 8.0)
                    width=(decimal(scale * row.each(count))) height="16" fill=(colour) {
                    title { (row.mechanism.name()) ", " (name) ": " (each(row, count)) }
                }
            }
            text x=(decimal(LEFT + scale * row.each(row.total) + 6.0)) y=(middle_of(index) + 4.0) {
                (each(row, row.total))
            }
        }
    };
    let entries = SERIES.iter().map(|(name, colour, _)| (*name, *colour));
    let entries: Vec<_> = entries.chain([("guest's loop", REST)]).collect();
    picture("Instructions of one out dx,al, by mechanism", rows.len(), &legend(&entries), &body)
}

/// Places the counts of a bar after each other: start, count, name and colour of those that are not 0.
fn stacked(counts: &[u64], rest: u64) -> Vec<(u64, u64, &'static str, &'static str)> {
    let names = SERIES.iter().map(|(name, colour, _)| (*name, *colour));
    let mut start = 0;
    let mut bars = Vec::new();
    for (&count, (name, colour)) in
        counts.iter().chain([&rest]).zip(names.chain([("guest's loop", REST)]))
    {
        if count > 0 {
            bars.push((start, count, name, colour));
        }
        start += count;
    }
    bars
}

/// The share of decode in each form, beside the third that was reported for Xen.
fn decode(report: &Report) -> String {
    const WAYS: [(Mechanism, &str); 3] = [
        (Mechanism::Trap, "#c0392b"),
        (Mechanism::TrapChecked, "#e08e45"),
        (Mechanism::Vc, "#8e5ea2"),
    ];
    /// The end of the scale, in percent.
    const END: f64 = 60.0;
    let x = |percent: f64| decimal(LEFT + (WIDTH - LEFT - RIGHT) * percent.min(END) / END);
    let forms = PortForm::ALL;
    let bottom = TOP + PITCH * forms.len() as f64;
    let body = html! {
        @for tick in [0, 10, 20, 30, 40, 50, 60] {
            line x1=(x(f64::from(tick))) x2=(x(f64::from(tick))) y1=(TOP) y2=(bottom) stroke="#ddd" {}
            text x=(x(f64::from(tick))) y=(bottom + 16.0) text-anchor="middle" { (tick) " %" }
        }
        line x1=(x(100.0 / 3.0)) x2=(x(100.0 / 3.0)) y1=(TOP - 4.0) y2=(bottom) stroke="#222" stroke-dasharray="4 3" {}
        @for (index, &form) in forms.iter().enumerate() {
            (label(index, form.name()))
            @for (way, colour) in WAYS {
                @if let Some(row) = report.metrics.get(way, Cell { form, elements: 1 }) {
                    @let percent = 100.0 * row.decode_share();
                    circle cx=(x(percent)) cy=(middle_of(index)) r="5" fill=(colour) {
                        title { (form.name()) " by " (way.name()) ": " (decimal(percent)) " %" }
                    }
                }
            }
        }
    };
    let mut entries = WAYS.map(|(way, colour)| (way.name(), colour)).to_vec();
    entries.push(("dashed: a third, as reported for Xen in 2010", "#222"));
    picture(
        "Share of decode in the instructions of one operation",
        forms.len(),
        &legend(&entries),
        &body,
    )
}

/// The workload's instructions by each mechanism.
fn workload(report: &Report) -> Option<String> {
    let workload = report.workload.as_ref()?;
    let rows: Vec<_> =
        workload.prices.iter().filter(|(way, _)| **way != Mechanism::Native).collect();
    let longest = rows.iter().map(|(_, price)| price.total).max()?.max(1) as f64;
    let scale = (WIDTH - LEFT - RIGHT) / longest;
    let body = html! {
        @for (index, (way, price)) in rows.iter().enumerate() {
            (label(index, way.name()))
            rect x=(LEFT) y=(middle_of(index) - 8.0) width=(decimal(scale * price.total as f64)) height="16"
                fill="#34699a" {
                title { (way.name()) ": " (number(price.total)) }
            }
            text x=(decimal(LEFT + scale * price.total as f64 + 6.0)) y=(middle_of(index) + 4.0) {
                (decimal(price.total as f64 / 1e6)) " M"
            }
        }
    };
    let source = html! { text x="12" y="44" { (workload.source) } };
    Some(picture("Instructions for the port I/O of a guest", rows.len(), &source, &body))
}
