//! A table of the page. The page's script sorts and filters it.

use maud::{Markup, html};

use crate::stats::text_table::{number, printable};

/// Maximum number of rows. More rows make browsers slow.
pub const MAX_ROWS: usize = 2000;

/// A table in HTML.
///
/// A column's heading begins with `<` or `>`, which aligns the column to the left or right. A column with an
/// empty heading is left out.
pub struct HtmlTable<const N: usize> {
    title: &'static str,
    columns: [&'static str; N],
    rows: Vec<[String; N]>,
    /// Number of rows of the dump that the table leaves out.
    left_out: usize,
}

impl<const N: usize> HtmlTable<N> {
    /// Makes a table of rows in their order.
    ///
    /// If there are more than [`MAX_ROWS`], it is a table of the [`busiest`](HtmlTable::busiest).
    pub fn new<R>(
        title: &'static str,
        columns: [&'static str; N],
        rows: &[R],
        count: impl Fn(&R) -> u64,
        cells: impl Fn(&R) -> [String; N],
    ) -> HtmlTable<N> {
        if rows.len() > MAX_ROWS {
            return HtmlTable::busiest(title, columns, rows, count, cells);
        }
        HtmlTable { title, columns, rows: rows.iter().map(cells).collect(), left_out: 0 }
    }

    /// Makes a table of the rows with the largest counts, in descending order.
    ///
    /// Rows with equal counts keep their order.
    pub fn busiest<R>(
        title: &'static str,
        columns: [&'static str; N],
        rows: &[R],
        count: impl Fn(&R) -> u64,
        cells: impl Fn(&R) -> [String; N],
    ) -> HtmlTable<N> {
        let mut order: Vec<&R> = rows.iter().collect();
        order.sort_by_key(|row| std::cmp::Reverse(count(row)));
        order.truncate(MAX_ROWS);
        let left_out = rows.len() - order.len();
        HtmlTable { title, columns, rows: order.into_iter().map(cells).collect(), left_out }
    }

    /// Renders the table. A table without rows renders to nothing.
    pub fn render(&self) -> Markup {
        let used: Vec<usize> = (0..N).filter(|&column| !self.columns[column].is_empty()).collect();
        let class = |column: usize| self.columns[column].starts_with('>').then_some("n");
        html! {
            @if !self.rows.is_empty() {
                section.table {
                    h2 { (self.title) }
                    @if self.left_out > 0 {
                        p { "The busiest " (number(MAX_ROWS as u64)) "; " (number(self.left_out as u64)) " more are in the dump." }
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
