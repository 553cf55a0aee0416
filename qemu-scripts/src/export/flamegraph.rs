//! Call chains as a flame graph in an SVG file. Callers are below the functions that they called.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use maud::{Markup, html};

use super::folded::paths;
use crate::stats::Tables;

/// Width of the picture, in pixels.
const WIDTH: f64 = 1200.0;

/// Distance between rows, in pixels.
const PITCH: usize = 17;

/// Minimum width of a cell, in pixels. Narrower cells are left out.
const NARROWEST: f64 = 0.3;

/// Approximate width of a letter, in pixels.
const LETTER: f64 = 7.0;

/// Maximum number of rows.
const DEEPEST: usize = 80;

/// A function, identified by the chain of its callers.
#[derive(Default)]
struct Node {
    accesses: u64,
    calls: BTreeMap<String, Node>,
}

/// A cell of the picture.
struct Cell<'a> {
    name: &'a str,
    accesses: u64,
    row: usize,
    left: f64,
    width: f64,
}

/// Writes the picture.
///
/// # Errors
///
/// Fails if the tables have no call chains, or if the output cannot be written.
pub fn write(tables: &Tables, out: &mut impl Write) -> Result<()> {
    let mut root = Node::default();
    for (path, accesses) in paths(tables)? {
        let mut node = &mut root;
        node.accesses = node.accesses.saturating_add(accesses);
        for name in path.into_iter().take(DEEPEST) {
            node = node.calls.entry(name).or_default();
            node.accesses = node.accesses.saturating_add(accesses);
        }
    }
    let mut cells = Vec::new();
    let scale = WIDTH / root.accesses.max(1) as f64;
    place("all accesses", &root, 0, 0.0, scale, &mut cells);
    out.write_all(picture(&cells, root.accesses).into_string().as_bytes())?;
    Ok(())
}

fn place<'a>(
    name: &'a str,
    node: &'a Node,
    row: usize,
    left: f64,
    scale: f64,
    cells: &mut Vec<Cell<'a>>,
) {
    let width = node.accesses as f64 * scale;
    if width < NARROWEST {
        return;
    }
    cells.push(Cell { name, accesses: node.accesses, row, left, width });
    let mut left = left;
    for (name, call) in &node.calls {
        place(name, call, row + 1, left, scale, cells);
        left += call.accesses as f64 * scale;
    }
}

fn picture(cells: &[Cell<'_>], all: u64) -> Markup {
    let rows = cells.iter().map(|cell| cell.row + 1).max().unwrap_or(1);
    let height = rows * PITCH + 2;
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(WIDTH) height=(height)
            viewBox={ "0 0 " (WIDTH) " " (height) } font-family="monospace" font-size="12" {
            title { "Port accesses by call chain" }
            rect width="100%" height="100%" fill="#ffffff" {}
            @for cell in cells {
                @let top = height - (cell.row + 1) * PITCH;
                g {
                    title { (cell.name) ": " (cell.accesses) " accesses, "
                        (format!("{:.1}", 100.0 * cell.accesses as f64 / all.max(1) as f64)) " %" }
                    rect x=(format!("{:.2}", cell.left)) y=(top)
                        width=(format!("{:.2}", (cell.width - 0.5).max(0.2))) height=(PITCH - 1)
                        fill=(colour(cell.name)) {}
                    @if let Some(label) = label(cell) {
                        text x=(format!("{:.2}", cell.left + 3.0)) y=(top + PITCH - 5) fill="#000000" { (label) }
                    }
                }
            }
        }
    }
}

/// Returns the part of a name that fits into the cell.
fn label(cell: &Cell<'_>) -> Option<String> {
    let room = ((cell.width - 6.0) / LETTER).max(0.0) as usize;
    match cell.name.chars().count() <= room {
        true => Some(cell.name.to_owned()),
        false if room > 3 => Some(cell.name.chars().take(room - 2).chain("..".chars()).collect()),
        false => None,
    }
}

/// Returns a light colour, the same for equal names.
fn colour(name: &str) -> String {
    let hash = name.bytes().fold(5381u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
    let (red, green, blue) = (215 + hash % 40, 130 + (hash >> 8) % 90, 70 + (hash >> 16) % 40);
    format!("#{red:02x}{green:02x}{blue:02x}")
}
