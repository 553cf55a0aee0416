//! Every ratio that the README quotes, measured again on this machine.

use anyhow::Result;
use clap::{Parser, ValueEnum};
use pvio::stats::QemuRow;
use pvio_scripts::bench::{Row, calls, linux, ports, readable, strings};
use pvio_scripts::machine::Machine;
use pvio_scripts::places;
use serde::Serialize;

/// Measures what the plugin costs and saves: ratios of two things measured in turn, with the median,
/// the least and the greatest.
#[derive(Parser)]
#[command(name = "qemu-scripts/bench", bin_name = "qemu-scripts/bench")]
struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// How many pairs of runs to measure for each ratio that takes two
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(7..=1000))]
    pairs: u16,
    /// Measure these alone; may be given again
    #[arg(long, value_enum)]
    only: Vec<Subject>,
}

/// What there is to measure.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Hypercalls over instructions
    Calls,
    /// Devices of the plugin's, and the price of counting
    Ports,
    /// Strings on devices of the plugin's
    Strings,
    /// A boot of Linux with the plugin
    Linux,
}

/// Everything that was measured.
#[derive(Serialize)]
struct Report {
    pvio: &'static str,
    qemu: QemuRow,
    /// Why rows are missing, if some are.
    left_out: Option<String>,
    rows: Vec<Row>,
}

/// The first plugin API with which a guest can be answered.
const ANSWERS: i32 = 5;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let report = measure(&arguments)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    println!(
        "pvio {} on QEMU {}\n",
        report.pvio,
        report.qemu.version.as_deref().unwrap_or("of unknown version"),
    );
    println!(
        "{:<32}  {:<34}  {:>5}  {:>7}  {:>7}  {:>7}  {:>15}",
        "what", "over", "pairs", "median", "min", "max", "which takes"
    );
    for Row { what, over, unit, base, ratio } in &report.rows {
        println!(
            "{what:<32}  {over:<34}  {:>5}  {:>7}  {:>7}  {:>7}  {:>15}",
            ratio.pairs,
            readable(ratio.median),
            readable(ratio.min),
            readable(ratio.max),
            format!("{base:.2} {unit}"),
        );
    }
    if let Some(why) = &report.left_out {
        println!("\n{why}");
    }
    Ok(())
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let qemu = places::chosen_qemu()?;
    let count = usize::from(arguments.pairs);
    let wants = |subject| arguments.only.is_empty() || arguments.only.contains(&subject);
    // The shortest guest there is tells which QEMU this is.
    let machine = Machine::new(&qemu).plugin(&["summary=off"]).args(["-accel", "tcg"]);
    let ended = machine.bare_guest(&places::guest("poweroff.bin")?).run()?;
    let host = ended.stats()?.qemu.clone();

    let (mut rows, mut left_out) = (Vec::new(), None);
    if wants(Subject::Linux) {
        rows.extend(linux::rows(&qemu, count)?);
    }
    if wants(Subject::Ports) {
        rows.extend(ports::rows(&qemu, count)?);
    }
    if wants(Subject::Strings) {
        rows.extend(strings::rows(&qemu, count)?);
    }
    if wants(Subject::Calls) {
        match host.plugin_api >= ANSWERS {
            true => rows.extend(calls::rows(&qemu)?),
            false => {
                left_out = Some(format!(
                    "Hypercalls are not measured: this QEMU's plugin API is version {}, in which no \
                     plugin can answer; QEMU 10.1 (version 5) or newer can.",
                    host.plugin_api
                ));
            }
        }
    }
    Ok(Report { pvio: env!("CARGO_PKG_VERSION"), qemu: host, left_out, rows })
}
