//! A dump as one HTML page: a headline, charts, tables.
//!
//! The page loads no other files. Its script only sorts and filters tables and zooms the flame graph, so the page is complete
//! without scripts and on paper. The guest's text is escaped twice: [`printable`] escapes control characters, the
//! template engine escapes markup.

mod answer;
mod chart;
mod charts;
mod flame;
mod table;
mod tables;

pub use flame::{call_path as call_chain_path, path as chain_path};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::stats::Snapshot;
use crate::stats::text_table::printable;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Content security policy: the browser loads nothing, whatever a dump contains.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// Renders the page. `sources` are the names of the dump's files.
pub fn render(dump: &Snapshot, sources: &[String]) -> String {
    let answer = answer::sentence(dump);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "pvio: " (answer) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (answer) }
                    @for line in answer::details(dump) { p { (line) } }
                    p.source { (source(dump, sources)) }
                    (warnings(dump))
                }
                main {
                    div.charts { (charts::all(dump)) }
                    (flame::graph(dump))
                    (tables::all(dump))
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
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
