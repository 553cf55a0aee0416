//! Prints the results as tables and sentences.

use pvio_x86::PortForm;

use super::metrics::Metrics;
use super::part::Part;
use super::report::Report;
use super::workload::{CLASSIC, Workload};
use super::{Cell, Mechanism};
use crate::stats::text_table::number;
use crate::table::Table;

/// Builds text of paragraphs and tables, plain or in Markdown.
struct Page {
    text: String,
    markdown: bool,
}

impl Page {
    fn paragraph(&mut self, text: &str) {
        self.text.push_str(&format!("{text}\n\n"));
    }

    fn section(&mut self, title: &str, table: &Table) {
        let table = if self.markdown { table.markdown() } else { table.plain() };
        let title = if self.markdown { format!("### {title}\n") } else { title.to_owned() };
        self.text.push_str(&format!("{title}\n{table}\n"));
    }
}

/// A column of parts: its title, and what it shows of an operation.
type Column = (&'static str, fn(&Metrics) -> String);

/// Columns of the mechanisms of 2007, after those of the monitor's parts.
const CLASSIC_COLUMNS: [Column; 2] = [
    ("all", |row| number(row.monitor)),
    ("decode %", |row| share(row.part(Part::Decode), row.monitor)),
];

/// Columns of today's mechanisms.
const TODAYS_COLUMNS: [Column; 11] = [
    ("handler", |row| part(row, &[Part::Handler])),
    ("guest decode", |row| part(row, &[Part::GuestDecode])),
    ("call", |row| part(row, &[Part::Call])),
    ("loop", |row| {
        let parts = Part::ALL.into_iter().filter(|&part| part != Part::Processor);
        each(row, row.total - parts.map(|part| row.part(part)).sum::<u64>())
    }),
    ("entry", |row| part(row, &[Part::Entry])),
    ("fetch, decode", |row| part(row, &[Part::Walk, Part::Fetch, Part::Decode])),
    ("emulate, device", |row| part(row, &[Part::Emulate, Part::Device])),
    ("user", |row| part(row, &[Part::User])),
    ("all", |row| each(row, row.total)),
    ("decode %", |row| format!("{:.0}", 100.0 * row.decode_share())),
    ("(processor)", |row| part(row, &[Part::Processor])),
];

fn share(part: u64, whole: u64) -> String {
    format!("{:.0}", 100.0 * part as f64 / whole.max(1) as f64)
}

/// Formats a count for one operation, with a decimal if it is a mean.
pub(super) fn each(row: &Metrics, count: u64) -> String {
    match row.operations {
        1 => number(count),
        _ => format!("{:.1}", row.each(count)),
    }
}

fn part(row: &Metrics, parts: &[Part]) -> String {
    each(row, parts.iter().map(|&part| row.part(part)).sum())
}

/// Formats a ratio of times.
fn ratio(row: &Metrics) -> String {
    row.time.map_or("-".into(), |time| format!("{:.1}", time.median))
}

impl Report {
    /// Formats the results for a terminal or in Markdown.
    pub fn render(&self, markdown: bool) -> String {
        let mut page = Page { text: String::new(), markdown };
        let title = if markdown { "### Conclusions" } else { "Conclusions" };
        page.paragraph(title);
        for words in &self.conclusions.words {
            let words = if markdown { words.clone() } else { words.replace('`', "") };
            page.paragraph(&words);
        }
        page.paragraph(&format!(
            "pvio {} on QEMU {}. All mechanisms made the same {} accesses, with the same values, and left the same \
             memory. Two runs counted the same instructions.",
            self.pvio,
            self.qemu.as_deref().unwrap_or("of unknown version"),
            number(self.accesses_compared as u64),
        ));
        let (classic, today) = (Mechanism::OF_2007, &Mechanism::OF_TODAY);
        page.section(
            "Instructions of the monitor for one operation",
            &self.matrix(classic, |row| match row.mechanism {
                Mechanism::Native => "-".into(),
                way if way.is_answered_by_plugin() => "(host)".into(),
                _ => number(row.monitor),
            }),
        );
        page.section(
            "Instructions of guest and monitor for one operation",
            &self.matrix(classic, |row| number(row.total)),
        );
        page.section(
            "Today's mechanisms: instructions of guest and monitor for one operation",
            &self.matrix(today, |row| each(row, row.total)),
        );
        if self.metrics.0.iter().any(|row| row.time.is_some()) {
            page.section(
                &format!("Time over native (median of {} rounds, under TCG)", self.rounds),
                &self.matrix(classic, ratio),
            );
            page.section(
                "Today's mechanisms: time over native, with the processor's part, under TCG",
                &self.matrix(today, ratio),
            );
        }
        page.section("Instructions of the monitor's parts", &self.parts(classic));
        page.section("Today's mechanisms: instructions of all parts", &self.parts(today));
        if let Some(workload) = &self.workload {
            page.section(&format!("{}, by each mechanism", workload.source), &prices(workload));
            page.section(
                "Its busiest ports: the monitor's instructions, in thousands",
                &ports(workload),
            );
        }
        format!("{}\n", page.text.trim_end())
    }

    /// Returns those of some mechanisms that were measured.
    fn measured(&self, ways: &[Mechanism]) -> Vec<Mechanism> {
        let tried = |way: &Mechanism| self.metrics.0.iter().any(|row| row.mechanism == *way);
        ways.iter().copied().filter(tried).collect()
    }

    fn matrix(&self, ways: &[Mechanism], cell_of: impl Fn(&Metrics) -> String) -> Table {
        let ways = self.measured(ways);
        let names = ways.iter().map(|way| way.name().to_owned());
        let mut table = Table::new(["operation".to_owned()].into_iter().chain(names));
        for cell in Cell::all() {
            let metrics =
                ways.iter().map(|&way| self.metrics.get(way, cell).map_or("".into(), &cell_of));
            table.row([cell.to_string()].into_iter().chain(metrics));
        }
        table
    }

    /// Makes the table of the parts of some operations.
    fn parts(&self, ways: &[Mechanism]) -> Table {
        let is_today = ways == Mechanism::OF_TODAY;
        let of_monitor = Part::OF_MONITOR.iter().filter(|_| !is_today);
        let columns: &[Column] = if is_today { &TODAYS_COLUMNS } else { &CLASSIC_COLUMNS };
        let names = of_monitor.clone().map(|part| part.name());
        let names = names.chain(columns.iter().map(|(title, _)| *title));
        let titles = ["operation"].into_iter().chain(names).map(str::to_owned);
        let mut table = Table::new(titles);
        use PortForm::{InAlImm, OutDxAl, OutDxAx, RepOutsb, RepOutsw};
        let one = |form| Cell { form, elements: 1 };
        for cell in [OutDxAl, OutDxAx, InAlImm, RepOutsb, RepOutsw].map(one) {
            for way in self.measured(ways).into_iter().filter(|way| !way.reaches_plugin()) {
                let Some(row) = self.metrics.get(way, cell) else { continue };
                let parts = of_monitor.clone().map(|&one| part(row, &[one]));
                let rest = columns.iter().map(|(_, value)| value(row));
                table.row([format!("{cell} by {way}")].into_iter().chain(parts).chain(rest));
            }
        }
        table
    }
}

fn prices(workload: &Workload) -> Table {
    let columns =
        ["mechanism", "monitor's instructions", "guest's and monitor's", "time over native"];
    let mut table = Table::new(columns.map(str::to_owned));
    let native = workload.prices.get(&Mechanism::Native).and_then(|price| price.cycles);
    for (way, price) in &workload.prices {
        let time = price.cycles.zip(native).map(|(own, native)| format!("{:.1}", own / native));
        let monitor = match way {
            Mechanism::Native => "-".into(),
            Mechanism::Pvio => "(host)".into(),
            _ => number(price.monitor),
        };
        table.row([way.to_string(), monitor, number(price.total), time.unwrap_or("-".into())]);
    }
    table
}

fn ports(workload: &Workload) -> Table {
    let in_monitor = |way: &Mechanism| !way.reaches_plugin() && workload.prices.contains_key(way);
    let ways: Vec<Mechanism> = CLASSIC.into_iter().filter(in_monitor).collect();
    let names = ways.iter().map(|way| way.name().to_owned());
    let mut table = Table::new(["port", "accesses"].map(str::to_owned).into_iter().chain(names));
    for port in &workload.ports {
        let name = port.name.as_ref().map_or(String::new(), |name| format!(" {name}"));
        let thousands = ways.iter().map(|way| number(port.monitor[way] / 1000));
        let first = [format!("{}{name}", port.port), number(port.accesses)];
        table.row(first.into_iter().chain(thousands));
    }
    table
}
