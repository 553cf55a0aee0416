//! A page of tables and lines, as text for a terminal or as Markdown.

use std::fmt::Write;

use crate::stats::text_table::printable;
use crate::table::Table;

/// How a page is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For a terminal; headings are bold with colour.
    Text {
        /// True if the terminal shows colours.
        colour: bool,
    },
    /// For a document.
    Markdown,
}

/// A page that grows.
#[derive(Debug)]
pub struct Page {
    text: String,
    format: Format,
}

/// A column: its heading, and whether it is aligned left.
pub type Column = (String, bool);

/// A column that is aligned left.
pub fn left(heading: &str) -> Column {
    (heading.to_owned(), true)
}

/// A column that is aligned right.
pub fn right(heading: impl Into<String>) -> Column {
    (heading.into(), false)
}

impl Page {
    /// An empty page.
    pub fn new(format: Format) -> Page {
        Page { text: String::new(), format }
    }

    /// The page as text.
    pub fn finish(self) -> String {
        self.text
    }

    /// Adds a heading.
    pub fn heading(&mut self, title: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        let title = printable(title);
        let _ = match self.format {
            Format::Markdown => writeln!(self.text, "{gap}## {title}\n"),
            Format::Text { colour: true } => writeln!(self.text, "{gap}\x1b[1m{title}\x1b[0m"),
            Format::Text { colour: false } => writeln!(self.text, "{gap}{title}"),
        };
    }

    /// Adds a table. Columns that are aligned left come first.
    pub fn table(&mut self, columns: Vec<Column>, rows: Vec<Vec<String>>) {
        let left = columns.iter().filter(|(_, left)| *left).count();
        let mut table = Table::new(columns.into_iter().map(|(heading, _)| heading)).left(left);
        for row in rows {
            table.row(row.into_iter().map(|cell| self.cell(&cell)));
        }
        let _ = match self.format {
            Format::Markdown => self.text.write_str(&table.markdown()),
            Format::Text { .. } => {
                table.plain().lines().try_for_each(|line| writeln!(self.text, "  {line}"))
            }
        };
    }

    fn cell(&self, cell: &str) -> String {
        let cell = printable(cell);
        match self.format {
            Format::Markdown => cell.replace('|', "\\|"),
            Format::Text { .. } => cell,
        }
    }

    /// Adds lines: paragraphs, or items of a list in Markdown.
    pub fn lines(&mut self, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        if self.format == Format::Markdown && !self.text.is_empty() && !self.text.ends_with("\n\n")
        {
            self.text.push('\n');
        }
        for line in lines {
            let line = printable(line);
            let _ = match self.format {
                Format::Markdown => writeln!(self.text, "- {line}"),
                Format::Text { .. } => writeln!(self.text, "  {line}"),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(format: Format) -> String {
        let mut page = Page::new(format);
        page.heading("Ports");
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        page.table(vec![left("port"), right("exits")], vec![row(["a|b\x1b", "1,000"])]);
        page.lines(&["a line".to_owned()]);
        page.finish()
    }

    #[test]
    fn page_has_both_formats() {
        let text = page(Format::Text { colour: false });
        assert_eq!(text, "Ports\n  port       exits\n  a|b\\u{1b}  1,000\n  a line\n");
        let markdown = page(Format::Markdown);
        assert_eq!(
            markdown,
            "## Ports\n\n| port | exits |\n| --- | ---: |\n| a\\|b\\u{1b} | 1,000 |\n\n- a line\n"
        );
        assert!(page(Format::Text { colour: true }).starts_with("\x1b[1mPorts\x1b[0m\n"));
    }
}
