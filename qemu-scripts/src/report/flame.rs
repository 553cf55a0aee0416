//! A flame graph of call chains in SVG. Callers are above the functions that they called; widths show accesses.
//!
//! Positions are percentages, as in the charts. Only zooming needs the page's script. Each cell has a title.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::stats::text_table::{number, percent, printable};
use crate::stats::{CallCallerRow, CallerRow, ChainEnd, FrameRow, Snapshot};

/// Distance between rows, in pixels.
const PITCH: usize = 19;

/// A cell is drawn only if it has at least one in this many of all accesses.
const NARROWEST: u64 = 2000;

/// A cell has text if it is wider than this, in percent. The page's script adds the others, for zooming.
const NARROWEST_TEXT: f64 = 1.0;

/// Maximum number of rows. pvio's chains have at most 64 callers, but a file from elsewhere may have more.
const DEEPEST: usize = 80;

/// A function, identified by the chain of its callers.
#[derive(Default)]
struct Node {
    accesses: u64,
    calls: BTreeMap<String, Node>,
}

impl Node {
    fn of(dump: &Snapshot) -> Node {
        let mut root = Node::default();
        let by_instruction = dump.callers.iter().map(|row| (path(row), row.accesses));
        let by_call = dump.call_callers.iter().map(|row| (call_path(row), row.accesses));
        for (path, accesses) in by_instruction.chain(by_call) {
            let mut node = &mut root;
            node.accesses = node.accesses.saturating_add(accesses);
            for name in path.into_iter().take(DEEPEST) {
                node = node.calls.entry(name).or_default();
                node.accesses = node.accesses.saturating_add(accesses);
            }
        }
        root
    }

    fn depth(&self, fewest: u64) -> usize {
        let calls = self.calls.values().filter(|call| call.accesses >= fewest);
        calls.map(|call| 1 + call.depth(fewest)).max().unwrap_or(0)
    }
}

/// Returns the functions of a chain, from the outermost to that of the site.
pub fn path(row: &CallerRow) -> Vec<String> {
    functions(&row.frames, row.end, row.function())
}

/// Returns the functions of a call site's chain, from the outermost to that of the site.
pub fn call_path(row: &CallCallerRow) -> Vec<String> {
    functions(&row.frames, row.end, row.function())
}

fn functions(frames: &[FrameRow], end: ChainEnd, site: &str) -> Vec<String> {
    let end = match end {
        ChainEnd::User => Some("user mode"),
        ChainEnd::Bottom => None,
        ChainEnd::Unknown => Some("?"),
        ChainEnd::Depth => Some("..."),
        ChainEnd::Dropped => Some("no room"),
    };
    let callers = frames.iter().rev().map(|frame| match frame.interrupted {
        true => format!("{} (interrupted)", frame.function()),
        false => frame.function().to_owned(),
    });
    let end = end.map(str::to_owned);
    end.into_iter().chain(callers).chain([site.to_owned()]).collect()
}

/// Renders the graph, if the dump has call chains.
pub fn graph(dump: &Snapshot) -> Markup {
    let root = Node::of(dump);
    if root.accesses == 0 {
        return html! {};
    }
    let fewest = (root.accesses / NARROWEST).max(1);
    let mut cells = Vec::new();
    place("all accesses", &root, (0, 0.0), &root, fewest, &mut cells);
    let height = (root.depth(fewest) + 1) * PITCH;
    html! {
        section.flame {
            h2 { "Call chains" }
            p.legend {
                "Callers are above the functions that they called. The width of a function shows the accesses made in it and in \
                 the functions that it called. Functions with less than one in " (number(NARROWEST)) " of all accesses are left out."
            }
            svg role="img" aria-label=(description(&root)) width="100%" height=(height) {
                @for cell in &cells { (cell) }
            }
        }
    }
}

fn place(
    name: &str,
    node: &Node,
    (level, start): (usize, f64),
    root: &Node,
    fewest: u64,
    cells: &mut Vec<Markup>,
) {
    let share = |accesses: u64| accesses as f64 * 100.0 / root.accesses as f64;
    let value = format!(
        "{}: {} · {} %",
        printable(name),
        number(node.accesses),
        percent(node.accesses, root.accesses)
    );
    let class = if level % 2 == 0 { "cell" } else { "cell odd" };
    cells.push(html! {
        svg class=(class) x={ (format!("{start:.3}")) "%" } y=(level * PITCH)
            width={ (format!("{:.3}", share(node.accesses))) "%" } height=(PITCH - 1) {
            title { (value) }
            rect width="100%" height="100%" {}
            @if share(node.accesses) > NARROWEST_TEXT { text x="4" y="13" { (printable(name)) } }
        }
    });
    let mut start = start;
    for (name, call) in &node.calls {
        if call.accesses >= fewest {
            place(name, call, (level + 1, start), root, fewest, cells);
        }
        start += share(call.accesses);
    }
}

/// Describes the graph for screen readers, by the outermost callers.
fn description(root: &Node) -> String {
    let calls = root.calls.iter().map(|(name, node)| {
        let share = percent(node.accesses, root.accesses);
        format!("{} {}, {share} %", printable(name), number(node.accesses))
    });
    format!("Call chains: {}", calls.take(12).collect::<Vec<_>>().join("; "))
}
