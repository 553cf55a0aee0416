//! Every ratio that the README quotes, measured again on this machine.

use anyhow::{Result, ensure};
use clap::Parser;
use pvio_scripts::machine::{Ended, Machine};
use pvio_scripts::measure::{Ratio, median, pairs};
use pvio_scripts::places;
use pvio_scripts::terminal::Progress;
use serde::Serialize;

/// Measures what the plugin costs: ratios of two things measured in turn, with the median, the
/// least and the greatest.
#[derive(Parser)]
#[command(name = "qemu-scripts/bench", bin_name = "qemu-scripts/bench")]
struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// How many pairs to measure for each ratio
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(7..=1000))]
    pairs: u16,
}

/// One ratio.
#[derive(Serialize)]
struct Row {
    /// What.
    name: &'static str,
    /// Over what.
    over: &'static str,
    /// Of elapsed time.
    wall: Ratio,
    /// Of processor time.
    cpu: Ratio,
    /// The middle of what it is over, in seconds of elapsed time.
    over_seconds: f64,
}

/// Everything that was measured.
#[derive(Serialize)]
struct Report {
    pvio: &'static str,
    qemu: Option<String>,
    rows: Vec<Row>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let report = measure(usize::from(arguments.pairs))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    println!(
        "pvio {} on QEMU {}: elapsed time, and processor time, over what it is compared with\n",
        report.pvio,
        report.qemu.as_deref().unwrap_or("of unknown version"),
    );
    println!(
        "{:<28}  {:<28}  {:>5}  {:>6}  {:>6}  {:>6}  {:>6}  {:>6}  {:>6}",
        "what", "over", "pairs", "median", "min", "max", "cpu", "min", "max"
    );
    for row in &report.rows {
        println!(
            "{:<28}  {:<28}  {:>5}  {:>6.3}  {:>6.3}  {:>6.3}  {:>6.3}  {:>6.3}  {:>6.3}",
            row.name,
            row.over,
            row.wall.pairs,
            row.wall.median,
            row.wall.min,
            row.wall.max,
            row.cpu.median,
            row.cpu.min,
            row.cpu.max,
        );
    }
    Ok(())
}

fn measure(count: usize) -> Result<Report> {
    let qemu = places::chosen_qemu()?;
    let boot = places::linux_arguments()?;
    let linux = || Machine::new(&qemu).args(&boot);
    let mut version = None;

    let progress = Progress::new();
    let boots = pairs(
        count,
        || {
            let ended = booted(linux().plugin(&["summary=off"]).run()?)?;
            version.clone_from(&ended.stats()?.qemu.version);
            Ok(ended)
        },
        || booted(linux().run()?),
        |pair| progress.set(&format!("Linux boot: pair {} of {count}", pair + 1)),
    )?;
    drop(progress);

    let ratio = |figure: fn(&Ended) -> f64| {
        Ratio::of(&boots.iter().map(|(a, b)| (figure(a), figure(b))).collect::<Vec<_>>())
    };
    let rows = vec![Row {
        name: "Linux boot, plugin",
        over: "Linux boot, no plugin",
        wall: ratio(|ended| ended.wall.as_secs_f64()),
        cpu: ratio(|ended| ended.cpu.as_secs_f64()),
        over_seconds: median(boots.iter().map(|(_, plain)| plain.wall.as_secs_f64())),
    }];
    Ok(Report { pvio: env!("CARGO_PKG_VERSION"), qemu: version, rows })
}

/// A boot that came to user space and powered off by itself.
fn booted(ended: Ended) -> Result<Ended> {
    ensure!(
        ended.status.success() && ended.stdout.contains("user space reached"),
        "Linux did not boot ({}): {}{}",
        ended.status,
        ended.stdout,
        ended.stderr
    );
    Ok(ended)
}
