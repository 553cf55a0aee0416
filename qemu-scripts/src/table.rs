//! A table, for a terminal or in Markdown.

/// Rows of cells; the first columns are aligned left, the others right.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    left: usize,
}

impl Table {
    /// A table with these columns, of which the first is aligned left.
    pub fn new(columns: impl IntoIterator<Item = String>) -> Table {
        Table { rows: vec![columns.into_iter().collect()], left: 1 }
    }

    /// The same with this many columns aligned left.
    pub fn left(self, left: usize) -> Table {
        Table { left, ..self }
    }

    /// One row more.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// In columns, with two spaces between.
    pub fn plain(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..columns).filter_map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                match column < self.left {
                    true => format!("{cell:<width$}"),
                    false => format!("{cell:>width$}"),
                }
            });
            format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
        };
        self.rows.iter().map(line).collect()
    }

    /// In Markdown.
    pub fn markdown(&self) -> String {
        let line = |row: &Vec<String>| format!("| {} |\n", row.join(" | "));
        let rule: Vec<&str> = (0..self.rows[0].len())
            .map(|column| if column < self.left { "---" } else { "---:" })
            .collect();
        let body: String = self.rows[1..].iter().map(line).collect();
        format!("{}| {} |\n{body}", line(&self.rows[0]), rule.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_a_table() {
        let mut table = Table::new(["form", "n"].map(str::to_owned));
        table.row(["insb", "1024"].map(str::to_owned));
        assert_eq!(table.plain(), "form     n\ninsb  1024\n");
        assert_eq!(table.markdown(), "| form | n |\n| --- | ---: |\n| insb | 1024 |\n");
        assert_eq!(table.left(2).plain(), "form  n\ninsb  1024\n");
    }
}
