//! A dump or a trace as one HTML page: a headline, charts, tables.
//!
//! The page loads no other files. Its script only sorts and filters tables and zooms the flame graph, so the page is complete
//! without scripts and on paper. The guest's text is escaped twice: [`printable`] escapes control characters, the
//! template engine escapes markup.

pub(crate) mod answer;
mod avoidable;
mod chart;
mod charts;
mod flame;
pub(crate) mod grouped;
mod lanes;
pub(crate) mod page;
pub(crate) mod table;
mod tables;
mod time_axis;
mod value_charts;
mod windows;

pub use flame::{call_path as call_chain_path, path as chain_path};

use maud::{Markup, html};

use self::avoidable::Avoidable;
use crate::stats::Snapshot;
use crate::stats::text_table::printable;
use crate::trace::Timeline;

/// Renders the page. `sources` are the names of the dump's files; `timeline` is that of the trace that the dump is from.
pub fn render(dump: &Snapshot, timeline: Option<&Timeline>, sources: &[String]) -> String {
    let avoidable = Avoidable::of(dump, timeline);
    let answer = answer::sentence(dump, avoidable);
    let body = html! {
        header {
            h1 { (page::breakable(&answer)) }
            @for line in answer::details(dump, avoidable) { p { (line) } }
            p.source { (source(dump, sources)) }
            (warnings(dump))
        }
        main {
            div.charts { (charts::all(dump)) }
            @if let Some(timeline) = timeline { (lanes::chart(dump, timeline)) }
            (value_charts::charts(dump, timeline))
            (flame::graph(dump))
            (tables::all(dump))
        }
    };
    page::render(&answer, &body)
}

/// Names the run: files, versions, end.
fn source(dump: &Snapshot, sources: &[String]) -> String {
    let runs = if dump.runs == 1 { String::new() } else { format!("; {} runs", dump.runs) };
    let ended = match &*dump.ended {
        "running" => "still running".to_owned(),
        how => format!("ended by {how}"),
    };
    let version = dump.qemu.version.as_deref().unwrap_or("of unknown version");
    printable(&format!(
        "{}: pvio {} on QEMU {version} ({}), {ended}{runs}",
        sources.join(", "),
        dump.pvio,
        dump.qemu.target,
    ))
}

/// Lists warnings: counts that do not add up, and unusable symbol files.
fn warnings(dump: &Snapshot) -> Markup {
    let mut lines: Vec<String> = dump.discrepancies().iter().map(ToString::to_string).collect();
    for file in &dump.symbol_files {
        lines.extend(file.problem.as_ref().map(|problem| format!("{}: {problem}", file.file)));
    }
    html! {
        @if !lines.is_empty() {
            ul.warnings aria-label="Warnings" {
                @for line in &lines { li { (printable(line)) } }
            }
        }
    }
}

#[cfg(test)]
mod tests;
