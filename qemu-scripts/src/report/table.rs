//! A table of the page. The page's script sorts and filters it.

use std::borrow::Cow;

use maud::{Markup, html};

use crate::stats::text_table::{number, printable};

/// Maximum number of rows. More rows make browsers slow.
pub const MAX_ROWS: usize = 2000;

/// A table in HTML.
///
/// A column's heading begins with `<` or `>`, which aligns the column to the left or right. A column with an
/// empty heading is left out.
pub struct HtmlTable<const N: usize> {
    title: Cow<'static, str>,
    columns: [&'static str; N],
    rows: Vec<[String; N]>,
    /// For each row its index in the dump.
    indexes: Vec<usize>,
    /// A last column, of links to rows of another table.
    links: Option<Links>,
    /// Number of rows of the dump that the table leaves out.
    left_out: usize,
}

/// A column of links.
struct Links {
    /// The prefix of a row's id; the row's index in the dump follows.
    id: &'static str,
    heading: &'static str,
    cells: Vec<Vec<Link>>,
}

/// A link to a row of another table.
pub struct Link {
    /// The id of the row; `None` if the table leaves the row out.
    pub row: Option<String>,
    /// The text.
    pub text: String,
}

/// Number of links in a cell that are always visible. The others appear on request.
const MAX_LINKS: usize = 6;

/// Maximum number of the other links in a cell, and in a table.
const MAX_HIDDEN: usize = 100;
const MAX_HIDDEN_IN_ALL: usize = 3000;

impl<const N: usize> HtmlTable<N> {
    /// Makes a table of rows in their order.
    ///
    /// If there are more than [`MAX_ROWS`], it is a table of the [`busiest`](HtmlTable::busiest).
    pub fn new<R>(
        title: impl Into<Cow<'static, str>>,
        columns: [&'static str; N],
        rows: &[R],
        count: impl Fn(&R) -> u64,
        cells: impl Fn(&R) -> [String; N],
    ) -> HtmlTable<N> {
        if rows.len() > MAX_ROWS {
            return HtmlTable::busiest(title, columns, rows, count, cells);
        }
        let indexes = (0..rows.len()).collect();
        let rows = rows.iter().map(cells).collect();
        HtmlTable { title: title.into(), columns, rows, indexes, links: None, left_out: 0 }
    }

    /// Makes a table of the rows with the largest counts, in descending order.
    ///
    /// Rows with equal counts keep their order.
    pub fn busiest<R>(
        title: impl Into<Cow<'static, str>>,
        columns: [&'static str; N],
        rows: &[R],
        count: impl Fn(&R) -> u64,
        cells: impl Fn(&R) -> [String; N],
    ) -> HtmlTable<N> {
        let mut indexes: Vec<usize> = (0..rows.len()).collect();
        indexes.sort_by_key(|&index| std::cmp::Reverse(count(&rows[index])));
        indexes.truncate(MAX_ROWS);
        let left_out = rows.len() - indexes.len();
        let rows = indexes.iter().map(|&index| cells(&rows[index])).collect();
        HtmlTable { title: title.into(), columns, rows, indexes, links: None, left_out }
    }

    /// Leaves out rows at the end, so that at most `count` are left.
    pub fn at_most(mut self, count: usize) -> HtmlTable<N> {
        self.left_out += self.rows.len().saturating_sub(count);
        self.rows.truncate(count);
        self.indexes.truncate(count);
        self
    }

    /// The indexes of the table's rows in the dump.
    pub fn indexes(&self) -> &[usize] {
        &self.indexes
    }

    /// Gives each row an id, and adds a column of links. `links` returns those of the row with an index.
    ///
    /// An id is `id` and the index of the row in the dump.
    pub fn with_links(
        mut self,
        id: &'static str,
        heading: &'static str,
        mut links: impl FnMut(usize) -> Vec<Link>,
    ) -> HtmlTable<N> {
        let cells = self.indexes.iter().map(|&index| links(index)).collect();
        self.links = Some(Links { id, heading, cells });
        self
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
                        p { "The busiest " (number(self.rows.len() as u64)) "; " (number(self.left_out as u64)) " more are in the dump." }
                    }
                    div.scroll tabindex="0" role="region" aria-label=(self.title) {
                        table {
                            thead { tr {
                                @for &column in &used {
                                    th scope="col" class=[class(column)] { (&self.columns[column][1..]) }
                                }
                                @if let Some(links) = &self.links {
                                    th scope="col" { (links.heading) }
                                }
                            } }
                            tbody {
                                @let hidden = self.hidden();
                                @for (place, row) in self.rows.iter().enumerate() {
                                    tr id=[self.id(place)] {
                                        @for &column in &used {
                                            td class=[class(column)] { (printable(&row[column])) }
                                        }
                                        @if let Some(links) = &self.links {
                                            td { (cell(&links.cells[place], hidden[place])) }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// The number of links of each row that appear on request.
    fn hidden(&self) -> Vec<usize> {
        let mut left = MAX_HIDDEN_IN_ALL;
        let cells = self.links.iter().flat_map(|links| &links.cells);
        let hidden = cells.map(|links| {
            let hidden = links.len().saturating_sub(MAX_LINKS).min(MAX_HIDDEN).min(left);
            left -= hidden;
            hidden
        });
        hidden.collect()
    }

    fn id(&self, place: usize) -> Option<String> {
        self.links.as_ref().map(|links| format!("{}{}", links.id, self.indexes[place]))
    }
}

/// The links of a row: the first ones, then so many that appear on request.
fn cell(links: &[Link], hidden: usize) -> Markup {
    let (shown, rest) = links.split_at(links.len().min(MAX_LINKS));
    let (hidden, left_out) = rest.split_at(rest.len().min(hidden));
    html! {
        (list(shown))
        @if !hidden.is_empty() {
            details {
                summary { "and " (number(rest.len() as u64)) " more" }
                (list(hidden))
                @if !left_out.is_empty() { " and " (number(left_out.len() as u64)) " more" }
            }
        } @else if !left_out.is_empty() {
            " and " (number(left_out.len() as u64)) " more"
        }
    }
}

fn list(links: &[Link]) -> Markup {
    html! {
        @for (place, link) in links.iter().enumerate() {
            @if place > 0 { ", " }
            @match &link.row {
                Some(row) => a href=(format!("#{row}")) { (printable(&link.text)) },
                None => (printable(&link.text)),
            }
        }
    }
}
