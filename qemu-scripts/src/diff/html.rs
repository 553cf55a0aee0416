//! A comparison as one HTML page: a headline, charts, tables.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::diff::cells::{change_cells, difference, share, signed};
use crate::diff::rows::Described;
use crate::diff::{Total, Verdict};
use crate::report::answer::functions;
use crate::report::grouped::{Group, grouped_chart};
use crate::report::page;
use crate::report::table::HtmlTable;
use crate::stats::text_table::{number, printable};
use crate::stats::{Change, Diff, Snapshot, TablesDiff, WindowDiff};

/// Maximum number of groups in a chart: the largest changes.
const MAX_GROUPS: usize = 8;

/// Renders the page. `names` are the names of the two files.
pub fn to_html(
    dumps: [&Snapshot; 2],
    names: [&str; 2],
    diff: &Diff,
    verdicts: &[Verdict<'_>],
) -> String {
    let headline = headline(dumps);
    let body = html! {
        header {
            h1 { (page::breakable(&headline)) }
            p.source { (printable(names[0])) " to " (printable(names[1])) }
            @if !verdicts.is_empty() {
                ul.warnings aria-label="Conditions" {
                    @for verdict in verdicts { li { (verdict.to_string()) } }
                }
            }
        }
        main {
            (charts(dumps))
            (totals(dumps))
            @if diff.is_empty() { p { "Nothing differs." } }
            (tables("", &diff.tables))
            (changes("", "Values", &diff.values))
            (windows(&diff.windows))
            @for window in &diff.windows {
                (tables(&format!("Window {}: ", printable(&window.name)), &window.tables))
            }
        }
    };
    page::render(&headline, &body)
}

/// States the change of the number of accesses.
fn headline(dumps: [&Snapshot; 2]) -> String {
    let counts = dumps.map(|dump| dump.accesses());
    let [before, after] = counts.map(number);
    let change = match counts {
        [before, after] if before == after => return format!("{after} port accesses, as before."),
        [0, _] => signed(difference(counts)),
        _ => format!("{}, {} %", signed(difference(counts)), share(counts)),
    };
    format!("{after} port accesses instead of {before} ({change}).")
}

/// The largest changes by port and by function.
fn charts(dumps: [&Snapshot; 2]) -> Markup {
    let ports = dumps.map(|dump| {
        let names = dump.ports.iter().map(|row| {
            let name = row.name.as_deref().map_or_else(|| row.port.to_string(), str::to_owned);
            (name, row.accesses())
        });
        names.collect::<Vec<_>>()
    });
    let functions = dumps.map(|dump| {
        let rows = functions(dump).into_iter();
        rows.map(|(function, count)| (function.to_string(), count)).collect::<Vec<_>>()
    });
    html! {
        div.charts {
            (chart("Accesses by port", ports))
            (chart("Accesses by function", functions))
        }
    }
}

fn chart(title: &str, counts: [Vec<(String, u64)>; 2]) -> Markup {
    let mut sums: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for (index, rows) in counts.into_iter().enumerate() {
        for (label, count) in rows {
            let sum = &mut sums.entry(label).or_default()[index];
            *sum = sum.saturating_add(count);
        }
    }
    let mut changed: Vec<(String, [u64; 2])> =
        sums.into_iter().filter(|(_, [before, after])| before != after).collect();
    changed.sort_by_key(|(_, counts)| Reverse(difference(*counts).unsigned_abs()));
    let count = changed.len();
    changed.truncate(MAX_GROUPS);
    let groups = changed.into_iter().map(|(label, counts)| Group { label, counts: counts.into() });
    let groups: Vec<Group> = groups.collect();
    let note = match count > groups.len() {
        true => format!("The {} largest changes of {}.", groups.len(), number(count as u64)),
        false => String::new(),
    };
    html! {
        @if !groups.is_empty() {
            (grouped_chart(title, &["before".to_owned(), "after".to_owned()], &groups, &note))
        }
    }
}

fn totals(dumps: [&Snapshot; 2]) -> Markup {
    let counts = Total::ALL.map(|total| (total.name, dumps.map(|dump| total.count(dump))));
    let is_idle = |counts: &[Option<u64>; 2]| counts.iter().all(|count| count.unwrap_or(0) == 0);
    let rows: Vec<_> = counts.into_iter().filter(|(_, counts)| !is_idle(counts)).collect();
    let columns = ["<Total", ">Before", ">After", ">Change", ">%"];
    let table = HtmlTable::new(
        "Totals",
        columns,
        &rows,
        |_| 0,
        |(name, counts)| {
            let known = match counts {
                [Some(before), Some(after)] => Some([*before, *after]),
                _ => None,
            };
            let [before, after] = counts.map(|count| count.map_or("-".to_owned(), number));
            let change = known.map_or("-".to_owned(), |counts| signed(difference(counts)));
            [(*name).to_owned(), before, after, change, known.map_or("-".to_owned(), share)]
        },
    );
    table.render()
}

fn tables(scope: &str, diff: &TablesDiff) -> Markup {
    html! {
        (changes(scope, "Forms", &diff.forms))
        (changes(scope, "Undecided forms", &diff.forms_undecided))
        (changes(scope, "Ports", &diff.ports))
        (changes(scope, "Sites", &diff.sites))
        (changes(scope, "Accesses by site and port", &diff.accesses_by_site))
        (changes(scope, "Call chains", &diff.callers))
        (changes(scope, "Hypercalls", &diff.hypercalls))
    }
}

/// A table of changed rows, the largest changes first.
fn changes<R: Described>(scope: &str, what: &str, changes: &[Change<R>]) -> Markup {
    let mut rows: Vec<(&Change<R>, [String; 9])> =
        changes.iter().map(|change| (change, change_cells(change))).collect();
    rows.sort_by_key(|(change, _)| Reverse(change.difference().unsigned_abs()));
    let has_others = rows.iter().any(|(_, cells)| !cells[8].is_empty());
    let [one, two, three, four] = R::NAMES;
    let also = if has_others { "<also" } else { "" };
    let columns = [one, two, three, four, ">before", ">after", ">change", ">%", also];
    let size = |(change, _): &(&Change<R>, _)| {
        u64::try_from(change.difference().unsigned_abs()).unwrap_or(u64::MAX)
    };
    let title = format!("{scope}{what} that changed");
    HtmlTable::new(title, columns, &rows, size, |(_, cells)| cells.clone()).render()
}

fn windows(windows: &[WindowDiff]) -> Markup {
    let columns =
        ["<Window", ">Entries before", ">Entries after", ">Before", ">After", ">Change", ">%"];
    let table = HtmlTable::new(
        "Windows that changed",
        columns,
        windows,
        |_| 0,
        |window| {
            let counts = window.tables.accesses;
            let [entered, entered_after] = window.entries.map(number);
            let [before, after] = counts.map(number);
            let change = signed(difference(counts));
            [window.name.clone(), entered, entered_after, before, after, change, share(counts)]
        },
    );
    table.render()
}
