//! Runs the experiment and prints its results.

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
use crate::stats::Snapshot;
use crate::table::Table;

/// Sizes of the experiment's runs.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Size of the runs that count. Counts are exact, so few repetitions suffice.
    pub counted: Size,
    /// Size of the timed run; `None` skips it.
    pub timed: Option<Size>,
}

impl Plan {
    const COUNTED: Size = Size { scalars: 16, strings: 2, rounds: 1 };

    /// Sizes for results to quote.
    pub const FULL: Plan = Plan {
        counted: Plan::COUNTED,
        timed: Some(Size { scalars: 1024, strings: 16, rounds: 10 }),
    };
    /// Sizes for a quick run.
    pub const QUICK: Plan =
        Plan { counted: Plan::COUNTED, timed: Some(Size { scalars: 256, strings: 4, rounds: 4 }) };
    /// Counts without times.
    pub const COUNTS: Plan = Plan { counted: Plan::COUNTED, timed: None };
}

/// Results of the experiment.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of pvio.
    pub pvio: &'static str,
    /// The version of QEMU; `None` if QEMU does not report it.
    pub qemu: Option<String>,
    /// Number of compared accesses of each mechanism that supports all forms.
    pub accesses_compared: usize,
    /// Number of timed rounds; 0 if nothing was timed.
    pub rounds: u32,
    /// Costs of all operations by all mechanisms.
    pub metrics: AllMetrics,
    /// A real guest's port I/O by each mechanism.
    pub workload: Option<Workload>,
    /// The conclusions.
    pub conclusions: Conclusions,
}

/// Runs the experiment on a QEMU.
///
/// `workload` is a dump of a guest's port I/O with a description of its origin. `progress` is called with a
/// description of each step.
///
/// # Errors
///
/// Fails if QEMU or the guest fails, if two mechanisms had different effects, or if two runs count differently.
pub fn measure(
    qemu: &Path,
    plan: Plan,
    workload: Option<(String, &Snapshot)>,
    progress: impl Fn(&str),
) -> Result<Report> {
    progress("counting instructions and comparing accesses");
    let first = run(qemu, plan.counted, true)?;
    let accesses_compared = check_logs(&first)?;
    let mut metrics = instructions(&first, plan.counted)?;
    progress("counting instructions again");
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
    let workload = workload.map(|(source, dump)| Workload::of(source, dump, &metrics));
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

impl Report {
    /// Formats the results for a terminal or in Markdown.
    ///
    /// # Errors
    ///
    /// Fails if the trap was not measured.
    pub fn render(&self, markdown: bool) -> Result<String> {
        let mut page = Page { text: String::new(), markdown };
        page.paragraph(&format!(
            "pvio {} on QEMU {}. All mechanisms made the same {} accesses, with the same values, and left the same \
             memory. Two runs counted the same instructions.",
            self.pvio,
            self.qemu.as_deref().unwrap_or("of unknown version"),
            self.accesses_compared,
        ));
        page.section(
            "Instructions of the monitor for one operation",
            &self.matrix(|row| match row.mechanism {
                Mechanism::Native => "-".into(),
                way if way.is_answered_by_plugin() => "(host)".into(),
                _ => row.monitor.to_string(),
            }),
        );
        page.section(
            "Instructions of guest and monitor for one operation",
            &self.matrix(|row| row.total.to_string()),
        );
        if self.metrics.0.iter().any(|row| row.time.is_some()) {
            page.section(
                &format!("Time over native (median of {} rounds, under TCG)", self.rounds),
                &self.matrix(|row| {
                    row.time.map_or("-".into(), |time| format!("{:.1}", time.median))
                }),
            );
        }
        page.section("Instructions of the monitor's parts", &self.parts()?);
        if let Some(workload) = &self.workload {
            page.section(&format!("{}, by each mechanism", workload.source), &prices(workload));
            page.section(
                "Its busiest ports: the monitor's instructions, in thousands",
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
        self.metrics.get(Mechanism::Trap, one(OutDxAl)).context("the trap was not measured")?;
        Ok(table)
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
