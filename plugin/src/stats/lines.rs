//! Tables of text: cells, numbers, percentages.

use std::fmt::Write;

use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Padding, Style};
use thousands::Separable;

/// A table without borders; `<` and `>` before a column's name align it, and one without a name is
/// left out.
pub(super) struct Lines {
    builder: Builder,
    columns: Vec<&'static str>,
}

impl Lines {
    pub fn new(columns: &[&'static str]) -> Lines {
        let mut lines = Lines { builder: Builder::default(), columns: columns.to_vec() };
        let names = columns.iter().map(|column| column.trim_start_matches(['<', '>']).to_owned());
        lines.push(names);
        lines
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.push(cells.into_iter());
    }

    fn push(&mut self, cells: impl Iterator<Item = String>) {
        let shown = cells.zip(&self.columns).filter(|(_, column)| !column.is_empty());
        self.builder.push_record(shown.map(|(cell, _)| cell));
    }

    pub fn render(self) -> String {
        let mut table = self.builder.build();
        table.with(Style::empty());
        let shown = self.columns.iter().filter(|column| !column.is_empty());
        for (place, column) in shown.enumerate() {
            let left = column.starts_with('<');
            table.modify(
                Columns::one(place),
                if left { Alignment::left() } else { Alignment::right() },
            );
            table.modify(Columns::one(place), Padding::new(2, 0, 0, 0));
        }
        let mut text = String::new();
        for line in table.to_string().lines() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

pub(super) fn number(number: u64) -> String {
    number.separate_with_commas()
}

pub(super) fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_string(),
        _ => format!("{:.1}", part as f64 * 100.0 / whole as f64),
    }
}
