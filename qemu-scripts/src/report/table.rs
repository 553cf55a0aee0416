//! A table of the page. Its script makes it sort and filter.

use maud::{Markup, html};

use crate::stats::text_table::{number, printable};

/// Rows that a table has at most. Browsers become slow with more.
pub const MOST_ROWS: usize = 2000;

/// A table. A column's heading begins with `<` or `>`, as that of a text table, and says how cells are
/// aligned; a column with an empty heading is left out.
pub struct HtmlTable<const N: usize> {
    title: &'static str,
    columns: [&'static str; N],
    rows: Vec<[String; N]>,
    /// Rows of the dump that the table does not have.
    left_out: usize,
}

impl<const N: usize> HtmlTable<N> {
    /// A table of rows in their order. Of very many it has those with the most of something.
    pub fn new<R>(
        title: &'static str,
        columns: [&'static str; N],
        rows: &[R],
        most: impl Fn(&R) -> u64,
        cells: impl Fn(&R) -> [String; N],
    ) -> HtmlTable<N> {
        if rows.len() > MOST_ROWS {
            return HtmlTable::busiest(title, columns, rows, most, cells);
        }
        HtmlTable { title, columns, rows: rows.iter().map(cells).collect(), left_out: 0 }
    }

    /// A table of the rows with the most of something, in descending order; equal rows keep theirs.
    pub fn busiest<R>(
        title: &'static str,
        columns: [&'static str; N],
        rows: &[R],
        most: impl Fn(&R) -> u64,
        cells: impl Fn(&R) -> [String; N],
    ) -> HtmlTable<N> {
        let mut order: Vec<&R> = rows.iter().collect();
        order.sort_by_key(|row| std::cmp::Reverse(most(row)));
        order.truncate(MOST_ROWS);
        let left_out = rows.len() - order.len();
        HtmlTable { title, columns, rows: order.into_iter().map(cells).collect(), left_out }
    }

    /// Renders the table; nothing if it has no rows.
    pub fn render(&self) -> Markup {
        let used: Vec<usize> = (0..N).filter(|&column| !self.columns[column].is_empty()).collect();
        let class = |column: usize| self.columns[column].starts_with('>').then_some("n");
        html! {
            @if !self.rows.is_empty() {
                section.table {
                    h2 { (self.title) }
                    @if self.left_out > 0 {
                        p { "The busiest " (number(MOST_ROWS as u64)) "; " (number(self.left_out as u64)) " more are in the dump." }
                    }
                    div.scroll tabindex="0" role="region" aria-label=(self.title) {
                        table {
                            thead { tr {
                                @for &column in &used {
                                    th scope="col" class=[class(column)] { (&self.columns[column][1..]) }
                                }
                            } }
                            tbody {
                                @for row in &self.rows {
                                    tr { @for &column in &used {
                                        td class=[class(column)] { (printable(&row[column])) }
                                    } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
