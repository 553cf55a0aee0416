//! What a run's port I/O would cost, as tables.

mod clusters;
mod each;
mod first_sites;
mod notes;
mod sums;

use super::advice::TraceSavings;
use super::clusters::Clusters;
use super::groups::Groups;
use super::model::{ExitClass, Model};
use super::page::{Format, Page, left, right};
use super::price::{Costed, Price};
use crate::stats::text_table::{number, percent};
use crate::stats::{SiteRow, Snapshot};

pub use each::{NamedRun, render_each};

/// All that a report is made of.
#[derive(Debug)]
pub struct Run<'a> {
    /// The dump, or the sum of several.
    pub dump: &'a Snapshot,
    /// Its accesses.
    pub groups: &'a Groups,
    /// The models, at least one.
    pub models: &'a [Model],
    /// The clusters of the traces; `None` without a trace.
    pub clusters: Option<&'a Clusters>,
    /// True if some of the inputs are traces and others are not.
    pub is_mixed: bool,
}

/// How much a report shows.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// The format.
    pub format: Format,
    /// The number of sites to change first.
    pub top: usize,
    /// True for all rows of tables, not only those with the largest cost.
    pub all: bool,
}

/// The number of rows of a table unless all are shown.
const MAX_ROWS: usize = 16;

/// Prints a report.
pub fn render(run: &Run<'_>, style: Style) -> String {
    let costed: Vec<Costed<'_>> =
        run.models.iter().map(|model| Costed::new(run.groups, model)).collect();
    let mut report = Report { run, style, costed, page: Page::new(style.format) };
    report.summary();
    for index in 0..report.costed.len() {
        report.first_sites(index);
    }
    report.clusters();
    report.loops();
    report.forms();
    report.ports();
    report.sites();
    report.callers();
    report.sources();
    report.page.finish()
}

struct Report<'a> {
    run: &'a Run<'a>,
    style: Style,
    costed: Vec<Costed<'a>>,
    page: Page,
}

/// A count that may exceed 64 bits in damaged dumps.
fn count(number: u128) -> String {
    self::number(u64::try_from(number).unwrap_or(u64::MAX))
}

/// The share of an amount, or of exits if the amount is not known.
fn share(part: &Price, whole: &Price) -> String {
    let (part, whole) = match (part.amount, whole.amount) {
        (Some(part), Some(whole)) => (part, whole),
        _ => return "-".to_owned(),
    };
    // Percentages need no more than 64 bits.
    let shift = 64u32.saturating_sub(whole.leading_zeros());
    percent((part >> shift) as u64, (whole >> shift) as u64)
}

impl Report<'_> {
    fn summary(&mut self) {
        self.page.heading("What the port I/O would cost as VM exits");
        let columns = vec![
            left("model"),
            right("accesses"),
            right("exits"),
            right("to user space"),
            right("in the kernel"),
            right("collected"),
            right("cost"),
            right("hypercalls save"),
            right("clusters save"),
            right("strings save"),
            right("unit"),
        ];
        let accesses: u64 = self.run.groups.groups.iter().map(|group| group.accesses).sum();
        let rows = self.costed.iter().map(|costed| {
            let unit = costed.model.unit;
            let total = costed.total();
            let classes = [ExitClass::User, ExitClass::Kernel, ExitClass::Coalesced];
            let [user, kernel, coalesced] =
                classes.map(|class| count(costed.of_class(class).exits));
            let savings = self.run.clusters.map(|clusters| TraceSavings::of(clusters, costed));
            let shown = |price: Option<Price>| price.map_or("-".to_owned(), |p| p.shown(unit));
            vec![
                costed.model.name.clone(),
                number(accesses),
                count(total.exits),
                user,
                kernel,
                coalesced,
                total.shown(unit),
                costed.total_saved().shown(unit),
                shown(savings.map(|savings| savings.clusters)),
                shown(savings.and_then(|savings| savings.strings)),
                unit.of_sums().to_owned(),
            ]
        });
        let rows = rows.collect();
        self.page.table(columns, rows);
        let notes = self.notes();
        self.page.lines(&notes);
    }
}

fn site_cells(site: &SiteRow) -> [String; 2] {
    let label = site.label_with_source().unwrap_or_default();
    [site.pc.clone(), label.into_owned()]
}

/// The first of a list, and how many more there are.
fn list(items: impl Iterator<Item = String>) -> String {
    /// More would make lines too long.
    const SHOWN: usize = 3;
    let mut seen = std::collections::BTreeSet::new();
    let mut items: Vec<String> = items.filter(|item| seen.insert(item.clone())).collect();
    let hidden = items.len().saturating_sub(SHOWN);
    items.truncate(SHOWN);
    let more = if hidden > 0 { format!(" +{hidden}") } else { String::new() };
    items.join(" ") + &more
}

#[cfg(test)]
mod tests;
