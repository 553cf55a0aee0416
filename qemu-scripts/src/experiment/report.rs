//! The experiment as a whole, and how it is printed.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use pvio_x86::PortForm;
use serde::Serialize;

use super::conclusions::Conclusions;
use super::equivalence::{check_digests, check_logs};
use super::guest::{Size, run};
use super::metrics::{AllMetrics, Metrics, Part, add_times, instructions};
use super::workload::{COMPLETE, Workload};
use super::{Cell, Mechanism};
use crate::machine::read_stats;
use crate::table::Table;

/// How long the experiment is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Of the runs that count: few operations tell all.
    pub counted: Size,
    /// Of the run that is timed; `None`: none is.
    pub timed: Option<Size>,
}

impl Plan {
    const COUNTED: Size = Size { scalars: 16, strings: 2, rounds: 1 };

    /// For figures to be quoted.
    pub const FULL: Plan = Plan {
        counted: Plan::COUNTED,
        timed: Some(Size { scalars: 1024, strings: 16, rounds: 10 }),
    };
    /// For a look.
    pub const QUICK: Plan =
        Plan { counted: Plan::COUNTED, timed: Some(Size { scalars: 256, strings: 4, rounds: 4 }) };
    /// Without time.
    pub const COUNTS: Plan = Plan { counted: Plan::COUNTED, timed: None };
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of pvio.
    pub pvio: &'static str,
    /// That of QEMU.
    pub qemu: Option<String>,
    /// How many accesses were compared, of each way that has all forms.
    pub accesses_compared: usize,
    /// How many pairs of times there are for each ratio.
    pub rounds: u32,
    /// Every operation by every way.
    pub metrics: AllMetrics,
    /// A guest's port I/O by every way.
    pub workload: Option<Workload>,
    /// What it all says.
    pub conclusions: Conclusions,
}

/// Carries a plan out on a QEMU. `workload` is a dump of a guest's port I/O, and where it is from;
/// `progress` is told what is done.
pub fn carry_out(
    qemu: &Path,
    plan: Plan,
    workload: Option<(String, &Path)>,
    progress: impl Fn(&str),
) -> Result<Report> {
    progress("counting instructions, and comparing what was done");
    let first = run(qemu, plan.counted, true)?;
    let accesses_compared = check_logs(&first)?;
    let mut metrics = instructions(&first, plan.counted)?;
    progress("counting them again");
    let again = run(qemu, plan.counted, true)?;
    check_logs(&again)?;
    same_counts(&metrics, &instructions(&again, plan.counted)?)?;
    let mut rounds = 0;
    if let Some(size) = plan.timed {
        progress("timing every operation");
        let timed = run(qemu, size, false)?;
        check_digests(&timed)?;
        add_times(&mut metrics, &timed)?;
        rounds = size.rounds - 1;
    }
    let workload = match workload {
        None => None,
        Some((source, path)) => Some(Workload::of(source, &read_stats(path)?, &metrics)),
    };
    let conclusions = Conclusions::of(&metrics, workload.as_ref());
    Ok(Report {
        pvio: env!("CARGO_PKG_VERSION"),
        qemu: first.stats.qemu.version.clone(),
        accesses_compared,
        rounds,
        metrics,
        workload,
        conclusions,
    })
}

fn same_counts(one: &AllMetrics, other: &AllMetrics) -> Result<()> {
    for (one, other) in one.0.iter().zip(&other.0) {
        ensure!(
            (one.total, &one.parts) == (other.total, &other.parts),
            "{} by {}: {} instructions in one run, {} in another",
            one.cell,
            one.mechanism,
            one.total,
            other.total
        );
    }
    Ok(())
}

/// Headings and tables, in one of the two ways.
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

impl Report {
    /// For a person, on a terminal or in Markdown.
    pub fn render(&self, markdown: bool) -> Result<String> {
        let mut page = Page { text: String::new(), markdown };
        page.paragraph(&format!(
            "pvio {} on QEMU {}. Each way made the same {} accesses, with the same values, and left the same \
             memory; two runs counted the same instructions.",
            self.pvio,
            self.qemu.as_deref().unwrap_or("of unknown version"),
            self.accesses_compared,
        ));
        page.section(
            "Instructions that the monitor executes for one operation",
            &self.matrix(|row| match row.mechanism {
                Mechanism::Native => "-".into(),
                way if way.is_answered_by_plugin() => "(host)".into(),
                _ => row.monitor.to_string(),
            }),
        );
        page.section(
            "Instructions of all, the guest's own included",
            &self.matrix(|row| row.total.to_string()),
        );
        if self.metrics.0.iter().any(|row| row.time.is_some()) {
            page.section(
                &format!(
                    "Time, by what it takes natively (median of {} rounds, under TCG)",
                    self.rounds
                ),
                &self.matrix(|row| {
                    row.time.map_or("-".into(), |time| format!("{:.1}", time.median))
                }),
            );
        }
        page.section("Where the monitor's instructions are", &self.parts()?);
        if let Some(workload) = &self.workload {
            page.section(&format!("{}, by each way", workload.source), &prices(workload));
            page.section(
                "The busiest ports of it: the monitor's instructions, thousands",
                &ports(workload),
            );
        }
        let title = if markdown { "### Conclusions" } else { "Conclusions" };
        page.paragraph(title);
        for words in &self.conclusions.words {
            let words = if markdown { words.clone() } else { words.replace('`', "") };
            page.paragraph(&words);
        }
        Ok(format!("{}\n", page.text.trim_end()))
    }

    fn ways(&self) -> Vec<Mechanism> {
        let tried = |way: &Mechanism| self.metrics.0.iter().any(|row| row.mechanism == *way);
        Mechanism::ALL.into_iter().filter(tried).collect()
    }

    fn matrix(&self, cell_of: impl Fn(&Metrics) -> String) -> Table {
        let ways = self.ways();
        let names = ways.iter().map(|way| way.name().to_owned());
        let mut table = Table::new(["operation".to_owned()].into_iter().chain(names));
        for cell in Cell::all() {
            let metrics =
                ways.iter().map(|&way| self.metrics.get(way, cell).map_or("".into(), &cell_of));
            table.row([cell.to_string()].into_iter().chain(metrics));
        }
        table
    }

    fn parts(&self) -> Result<Table> {
        let names = Part::ALL.iter().map(|part| part.name().to_owned());
        let columns = ["operation".to_owned()].into_iter().chain(names);
        let mut table = Table::new(columns.chain(["all".to_owned(), "decode %".to_owned()]));
        let one = |form| Cell { form, elements: 1 };
        use PortForm::{InAlImm, OutDxAl, OutDxAx, RepOutsb, RepOutsw};
        for cell in [OutDxAl, OutDxAx, InAlImm, RepOutsb, RepOutsw].map(one) {
            for way in self.ways() {
                if way.reaches_plugin() {
                    continue;
                }
                let Some(row) = self.metrics.get(way, cell) else { continue };
                let parts = Part::ALL.iter().map(|&part| row.part(part).to_string());
                let share = 100.0 * row.part(Part::Decode) as f64 / row.monitor as f64;
                let name = [format!("{cell} by {way}")];
                let sum = [row.monitor.to_string(), format!("{share:.0}")];
                table.row(name.into_iter().chain(parts).chain(sum));
            }
        }
        self.metrics.get(Mechanism::Trap, one(OutDxAl)).context("the trap was not tried")?;
        Ok(table)
    }
}

fn prices(workload: &Workload) -> Table {
    let columns = ["way", "monitor's instructions", "instructions of all", "time, by native's"];
    let mut table = Table::new(columns.map(str::to_owned));
    let native = workload.prices.get(&Mechanism::Native).and_then(|price| price.cycles);
    for (way, price) in &workload.prices {
        let time = price.cycles.zip(native).map(|(own, native)| format!("{:.1}", own / native));
        let monitor = match way {
            Mechanism::Native => "-".into(),
            Mechanism::Pvio => "(host)".into(),
            _ => price.monitor.to_string(),
        };
        table.row([way.to_string(), monitor, price.total.to_string(), time.unwrap_or("-".into())]);
    }
    table
}

fn ports(workload: &Workload) -> Table {
    let in_monitor = |way: &Mechanism| !way.reaches_plugin() && workload.prices.contains_key(way);
    let ways: Vec<Mechanism> = COMPLETE.into_iter().filter(in_monitor).collect();
    let names = ways.iter().map(|way| way.name().to_owned());
    let mut table = Table::new(["port", "accesses"].map(str::to_owned).into_iter().chain(names));
    for port in &workload.ports {
        let name = port.name.as_ref().map_or(String::new(), |name| format!(" {name}"));
        let thousands = ways.iter().map(|way| (port.monitor[way] / 1000).to_string());
        let first = [format!("{}{name}", port.port), port.accesses.to_string()];
        table.row(first.into_iter().chain(thousands));
    }
    table
}
