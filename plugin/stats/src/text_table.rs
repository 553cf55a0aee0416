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
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.push(cells.into_iter());
    }

    fn push(&mut self, cells: impl Iterator<Item = String>) {
        let shown = cells.zip(&self.columns).filter(|(_, column)| !column.is_empty());
        self.builder.push_record(shown.map(|(cell, _)| cell));
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
