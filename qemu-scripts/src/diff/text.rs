//! A comparison as text tables.

use std::cmp::Reverse;
use std::fmt::Write;

use crate::diff::Total;
use crate::diff::cells::{change_cells, difference, share, signed};
use crate::diff::rows::Described;
use crate::stats::text_table::{TextTable, number, printable};
use crate::stats::{Change, Diff, Snapshot, TablesDiff, WindowDiff};

/// Options of the text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Prints headings bold, growth red and decline green.
    pub colour: bool,
    /// Lists every changed row, not only the largest changes.
    pub all: bool,
}

/// Maximum number of rows in a table unless [`Style::all`] is set.
const MAX_CHANGES: usize = 16;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const PLAIN: &str = "\x1b[0m";

/// Renders a comparison as text tables, with a newline at the end.
pub fn render(dumps: [&Snapshot; 2], diff: &Diff, style: Style) -> String {
    let mut page = Page { text: String::new(), style };
    page.totals(dumps);
    if diff.is_empty() {
        page.text += "\nNothing differs.\n";
        return page.text;
    }
    page.tables("", &diff.tables);
    page.changes("", "values", &diff.values);
    if !diff.windows.is_empty() {
        page.windows(&diff.windows);
    }
    for window in &diff.windows {
        page.tables(&format!("Window {}: ", printable(&window.name)), &window.tables);
    }
    page.text
}

struct Page {
    text: String,
    style: Style,
}

impl Page {
    fn heading(&mut self, title: &str) {
        let (on, off) = if self.style.colour { (BOLD, PLAIN) } else { ("", "") };
        let gap = if self.text.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.text, "{gap}{on}{title}{off}");
    }

    /// Adds a table. `differences` has one number for each row, whose sign chooses the colour.
    fn table(&mut self, table: TextTable, differences: &[i128]) {
        let table = table.render();
        let mut lines = table.lines();
        let _ = lines.next().map(|heading| writeln!(self.text, "{heading}"));
        for (line, &difference) in lines.zip(differences) {
            let colour = match difference {
                0 => "",
                _ if difference > 0 => RED,
                _ => GREEN,
            };
            let _ = match self.style.colour && !colour.is_empty() {
                true => writeln!(self.text, "{colour}{line}{PLAIN}"),
                false => writeln!(self.text, "{line}"),
            };
        }
    }

    fn totals(&mut self, dumps: [&Snapshot; 2]) {
        let mut table = TextTable::new(&["<total", ">before", ">after", ">change", ">%"]);
        let mut differences = Vec::new();
        let accesses = dumps.map(|dump| Total::ALL[0].count(dump));
        for total in Total::ALL {
            let counts = dumps.map(|dump| total.count(dump));
            let is_idle = counts.iter().all(|count| count.is_none_or(|count| count == 0));
            let is_all = total.name == "instruction-accesses" && counts == accesses;
            if is_idle || is_all {
                continue;
            }
            let [before, after] = counts.map(|count| count.map_or("-".to_owned(), number));
            let known = match counts {
                [Some(before), Some(after)] => Some([before, after]),
                _ => None,
            };
            let change = known.map_or("-".to_owned(), |counts| signed(difference(counts)));
            let percent = known.map_or("-".to_owned(), share);
            table.row([total.name.to_owned(), before, after, change, percent]);
            differences.push(known.map_or(0, difference));
        }
        if differences.is_empty() {
            self.text += "Neither dump counts an access.\n";
        } else {
            self.heading("Totals");
            self.table(table, &differences);
        }
    }

    fn tables(&mut self, scope: &str, diff: &TablesDiff) {
        self.changes(scope, "forms", &diff.forms);
        self.changes(scope, "undecided forms", &diff.forms_undecided);
        self.changes(scope, "ports", &diff.ports);
        self.changes(scope, "sites", &diff.sites);
        self.changes(scope, "accesses by site and port", &diff.accesses_by_site);
        self.changes(scope, "call chains", &diff.callers);
        self.changes(scope, "hypercalls", &diff.hypercalls);
        self.changes(scope, "call sites", &diff.call_sites);
        self.changes(scope, "accesses by call site and port", &diff.accesses_by_call_site);
        self.changes(scope, "call chains of hypercalls", &diff.call_callers);
    }

    fn changes<R: Described>(&mut self, scope: &str, what: &str, changes: &[Change<R>]) {
        if changes.is_empty() {
            return;
        }
        let mut rows: Vec<&Change<R>> = changes.iter().collect();
        rows.sort_by_key(|change| Reverse(change.difference().unsigned_abs()));
        let count = rows.len();
        if !self.style.all {
            rows.truncate(MAX_CHANGES);
        }
        let title = match rows.len() < count {
            true => {
                format!("the {} largest changes of {} {what}", rows.len(), number(count as u64))
            }
            false => format!("{what} that changed"),
        };
        self.heading(&capitalized(&format!("{scope}{title}")));
        let cells: Vec<[String; 9]> = rows.iter().map(|change| change_cells(change)).collect();
        let has_others = cells.iter().any(|cells| !cells[8].is_empty());
        let [one, two, three, four] = R::NAMES;
        let also = if has_others { "<also" } else { "" };
        let mut table =
            TextTable::new(&[one, two, three, four, ">before", ">after", ">change", ">%", also]);
        cells.into_iter().for_each(|cells| table.row(cells));
        let differences: Vec<i128> = rows.iter().map(|change| change.difference()).collect();
        self.table(table, &differences);
    }

    fn windows(&mut self, windows: &[WindowDiff]) {
        self.heading("Windows that changed");
        let mut table =
            TextTable::new(&["<name", ">entries", ">before", ">after", ">change", ">%"]);
        let mut differences = Vec::new();
        for window in windows {
            let [before, after] = window.tables.accesses.map(number);
            let [entered, entered_after] = window.entries.map(number);
            let entries = match entered == entered_after {
                true => entered,
                false => format!("{entered} -> {entered_after}"),
            };
            let difference = difference(window.tables.accesses);
            table.row([
                window.name.clone(),
                entries,
                before,
                after,
                signed(difference),
                share(window.tables.accesses),
            ]);
            differences.push(difference);
        }
        self.table(table, &differences);
    }
}

fn capitalized(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::stats::WindowRow;
    use crate::stats::test_data::snapshot;

    fn text(before: &Snapshot, after: &Snapshot, style: Style) -> String {
        render([before, after], &Diff::new(before, after), style)
    }

    #[test]
    fn tables_are_aligned() {
        let (before, mut after) = (snapshot(70_000), snapshot(1_234_567));
        let mut tables = snapshot(12).tables;
        tables.sites[0].symbol = Some("new\x1b[31m".to_owned());
        let window = WindowRow {
            name: "disk\n".to_owned(),
            entries: 2,
            open: false,
            rows_dropped: false,
            tables,
        };
        after.windows.push(window);
        expect![[r#"
            Totals
              total       before      after      change        %
              accesses    70,000  1,234,567  +1,164,567  +1663.7
              executions  70,000  1,234,567  +1,164,567  +1663.7
              attempts    70,000  1,234,567  +1,164,567  +1663.7
              bytes       70,000  1,234,567  +1,164,567  +1663.7

            Forms that changed
              form       before      after      change        %
              out dx,al  70,000  1,234,567  +1,164,567  +1663.7

            Ports that changed
              port    dir  size  name  before      after      change        %
              0x03f8  out     1  COM1  70,000  1,234,567  +1,164,567  +1663.7

            Sites that changed
              address             instruction  symbol             before      after      change        %
              0xffffffff81000051  out dx,al    io_serial_out+0x1  70,000  1,234,567  +1,164,567  +1663.7

            Accesses by site and port that changed
              address             instruction  port    symbol             before      after      change        %
              0xffffffff81000051  out dx,al    0x03f8  io_serial_out+0x1  70,000  1,234,567  +1,164,567  +1663.7

            Windows that changed
              name    entries  before  after  change  %
              disk\n   0 -> 2       0     12     +12  -

            Window disk\n: forms that changed
              form       before  after  change    %
              out dx,al       0     12     +12  new

            Window disk\n: ports that changed
              port    dir  size  name  before  after  change    %
              0x03f8  out     1  COM1       0     12     +12  new

            Window disk\n: sites that changed
              address             instruction  symbol         before  after  change    %
              0xffffffff81000051  out dx,al    new\u{1b}[31m       0     12     +12  new

            Window disk\n: accesses by site and port that changed
              address             instruction  port    symbol         before  after  change    %
              0xffffffff81000051  out dx,al    0x03f8  new\u{1b}[31m       0     12     +12  new
        "#]].assert_eq(&text(&before, &after, Style::default()));
    }

    #[test]
    fn equal_dumps_do_not_differ() {
        let dump = snapshot(5);
        assert!(text(&dump, &dump, Style::default()).ends_with("\nNothing differs.\n"));
    }

    #[test]
    fn other_changes_of_a_row_are_listed() {
        let (before, mut after) = (snapshot(5), snapshot(5));
        let row = after.tables.forms.iter_mut().find(|row| row.accesses > 0).unwrap();
        (row.attempts, row.faults) = (8, Some(3));
        after.tables.ports[0].name = Some("latch".into());
        let text = text(&before, &after, Style::default());
        assert!(text.contains("attempts +3, faults +3\n"), "{text}");
        assert!(text.contains("was COM1\n"), "{text}");
    }

    #[test]
    fn colour_is_optional() {
        let (less, more) = (snapshot(5), snapshot(6));
        assert!(!text(&less, &more, Style::default()).contains('\x1b'));
        let colour = Style { colour: true, ..Style::default() };
        let growth = text(&less, &more, colour);
        assert!(
            growth.contains("\x1b[1mTotals") && growth.contains("\x1b[31m  accesses"),
            "{growth}"
        );
        assert!(text(&more, &less, colour).contains("\x1b[32m  accesses"));
    }

    #[test]
    fn tables_list_the_16_largest_changes_or_all() {
        let (before, mut after) = (snapshot(5), snapshot(5));
        let row = after.tables.ports[0].clone();
        for port in 0..20 {
            let mut row = row.clone();
            (row.port.0, row.qemu) = (port, u64::from(port) + 1);
            after.tables.ports.push(row);
        }
        let short = text(&before, &after, Style::default());
        assert!(short.contains("The 16 largest changes of 20 ports"), "{short}");
        assert!(short.contains("  0x0013 ") && !short.contains("  0x0003 "), "{short}");
        let long = text(&before, &after, Style { all: true, ..Style::default() });
        assert!(long.contains("Ports that changed") && long.contains("  0x0000 "), "{long}");
    }
}
