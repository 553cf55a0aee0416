//! Text tables: aligned cells, numbers with thousands separators, percentages.

use std::fmt::Write;

use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Padding, Style};
use thousands::Separable;

/// A text table without borders.
///
/// Each column's heading begins with `<` or `>`, which aligns the column to the left or right. A
/// column with an empty heading is left out.
#[derive(Debug)]
pub struct TextTable {
    builder: Builder,
    columns: Vec<&'static str>,
}

impl TextTable {
    /// A table with these headings and no rows.
    pub fn new(columns: &[&'static str]) -> TextTable {
        let mut table = TextTable { builder: Builder::default(), columns: columns.to_vec() };
        let names = columns.iter().map(|column| column.trim_start_matches(['<', '>']).to_owned());
        table.push(names);
        table
    }

    /// Adds a row. It has a cell for each column, also for those that are left out.
    ///
    /// Cells are made [`printable`].
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.push(cells.into_iter());
    }

    fn push(&mut self, cells: impl Iterator<Item = String>) {
        let shown = cells.zip(&self.columns).filter(|(_, column)| !column.is_empty());
        self.builder.push_record(shown.map(|(cell, _)| printable(&cell)));
    }

    /// The table as lines of text, indented by two columns, each with a newline.
    pub fn render(self) -> String {
        let mut table = self.builder.build();
        table.with(Style::empty());
        let shown = self.columns.iter().filter(|column| !column.is_empty());
        for (index, column) in shown.enumerate() {
            let left = column.starts_with('<');
            table.modify(
                Columns::one(index),
                if left { Alignment::left() } else { Alignment::right() },
            );
            table.modify(Columns::one(index), Padding::new(2, 0, 0, 0));
        }
        let mut text = String::new();
        for line in table.to_string().lines() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

/// A number with commas between thousands: `1,234,567`.
pub fn number(number: u64) -> String {
    number.separate_with_commas()
}

/// A share in percent with one decimal; `-` if there is no whole.
pub fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_string(),
        _ => format!("{:.1}", part as f64 * 100.0 / whole as f64),
    }
}

/// Escapes control characters, and those that change the direction of the text after them.
///
/// A guest chooses its symbols and the names of its windows, which may hold a terminal's escape
/// sequences.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                shown.extend(character.escape_unicode());
            }
            _ if character.is_control() => shown.extend(character.escape_debug()),
            _ => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\x1b[31m\n\0"), "a\\u{1b}[31m\\n\\0");
        assert_eq!(printable("\u{202e}txt"), "\\u{202e}txt");
        assert_eq!(printable("operator<< \"é\""), "operator<< \"é\"");
        let mut table = TextTable::new(&["<symbol"]);
        table.row(["two\nlines".to_owned()]);
        assert_eq!(table.render(), "  symbol\n  two\\nlines\n");
    }
}
