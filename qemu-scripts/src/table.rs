//! Tables for a terminal or in Markdown.

use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Padding, Style};

/// Rows of cells. The first columns are aligned left, the others right.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Builder,
    columns: usize,
    left: usize,
}

impl Table {
    /// Makes an empty table. The first column is aligned left.
    pub fn new(columns: impl IntoIterator<Item = String>) -> Table {
        let mut rows = Builder::default();
        rows.push_record(columns);
        let columns = rows.count_columns();
        Table { rows, columns, left: 1 }
    }

    /// Aligns this many columns left.
    pub fn left(self, left: usize) -> Table {
        Table { left, ..self }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push_record(cells);
    }

    /// Formats the table for a terminal: no borders, two spaces between columns.
    pub fn plain(&self) -> String {
        let mut table = self.rows.clone().build();
        table.with(Style::empty());
        table.with(Padding::new(0, 2, 0, 0));
        table.modify(Columns::last(), Padding::zero());
        table.modify(Columns::new(self.left..), Alignment::right());
        table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// Formats the table in Markdown. Cells are not padded, so a changed cell changes one line.
    pub fn markdown(&self) -> String {
        let rows: Vec<Vec<String>> = self.rows.clone().into();
        let line = |row: &Vec<String>| format!("| {} |\n", row.join(" | "));
        let rule = (0..self.columns).map(|column| if column < self.left { "---" } else { "---:" });
        let rule = line(&rule.map(str::to_owned).collect());
        let body: String = rows[1..].iter().map(line).collect();
        [line(&rows[0]), rule, body].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_both_formats() {
        let mut table = Table::new(["form", "n"].map(str::to_owned));
        table.row(["insb", "1024"].map(str::to_owned));
        assert_eq!(table.plain(), "form     n\ninsb  1024\n");
        assert_eq!(table.markdown(), "| form | n |\n| --- | ---: |\n| insb | 1024 |\n");
        assert_eq!(table.left(2).plain(), "form  n\ninsb  1024\n");
    }
}
