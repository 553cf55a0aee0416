//! Every ratio that the README quotes, measured again on this machine.

use std::path::Path;

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
    what: &'static str,
    /// Over what.
    over: &'static str,
    /// In what it is measured.
    unit: &'static str,
    /// The middle of what it is over, in that unit.
    base: f64,
    /// How much longer the one takes than the other.
    ratio: Ratio,
}

impl Row {
    fn of(what: &'static str, over: &'static str, unit: &'static str, pairs: &[(f64, f64)]) -> Row {
        let base = median(pairs.iter().map(|&(_, base)| base));
        Row { what, over, unit, base, ratio: Ratio::of(pairs) }
    }
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
        "pvio {} on QEMU {}\n",
        report.pvio,
        report.qemu.as_deref().unwrap_or("of unknown version"),
    );
    println!(
        "{:<32}  {:<34}  {:>5}  {:>6}  {:>6}  {:>6}  {:>15}",
        "what", "over", "pairs", "median", "min", "max", "which takes"
    );
    for Row { what, over, unit, base, ratio } in &report.rows {
        println!(
            "{what:<32}  {over:<34}  {:>5}  {:>6.3}  {:>6.3}  {:>6.3}  {:>15}",
            ratio.pairs,
            ratio.median,
            ratio.min,
            ratio.max,
            format!("{base:.2} {unit}"),
        );
    }
    Ok(())
}

fn measure(count: usize) -> Result<Report> {
    let qemu = places::chosen_qemu()?;
    let (version, mut rows) = linux_boot(&qemu, count)?;
    rows.extend(port_on_a_device(&qemu, count)?);
    Ok(Report { pvio: env!("CARGO_PKG_VERSION"), qemu: version, rows })
}

/// A Linux boot with the plugin and without.
fn linux_boot(qemu: &Path, count: usize) -> Result<(Option<String>, Vec<Row>)> {
    let boot = places::linux_arguments()?;
    let linux = || Machine::new(qemu).args(&boot);
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
    let figures = |figure: fn(&Ended) -> f64| -> Vec<(f64, f64)> {
        boots.iter().map(|(with, without)| (figure(with), figure(without))).collect()
    };
    let (what, over) = ("Linux boot with the plugin", "without");
    let wall = figures(|ended| ended.wall.as_secs_f64());
    let cpu = figures(|ended| ended.cpu.as_secs_f64());
    let rows = vec![Row::of(what, over, "s", &wall), Row::of(what, over, "s of CPU", &cpu)];
    Ok((version, rows))
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

/// `out` and `in` on a latch of the plugin's and on QEMU's own, in the same run of a guest that times
/// them in turn (`tests/guests/port-cost.S`).
fn port_on_a_device(qemu: &Path, count: usize) -> Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let times = directory.path().join("times");
    let run = |options: Option<&[&str]>| -> Result<Vec<Times>> {
        let machine = Machine::new(qemu)
            .args(["-accel", "tcg", "-device", "pc-testdev"])
            .args(["-debugcon", &format!("file:{}", times.display())])
            .bare_guest(&places::guest("port-cost.bin")?);
        let ended = match options {
            Some(options) => machine.plugin(options).run()?,
            None => machine.run()?,
        };
        let rounds = Times::read(&std::fs::read(&times)?);
        ensure!(!rounds.is_empty(), "the guest measured nothing: {}", ended.stderr);
        Ok(rounds)
    };
    let progress = Progress::new();
    progress.set("ports: the plugin's latch and QEMU's");
    let own = run(Some(&["summary=off", "device=latch@0x5000"]))?;
    // One run's middle is one half of a pair here: the other half is a run without the plugin.
    let middle = |rounds: &[Times], figure: fn(&Times) -> f64| median(rounds.iter().map(figure));
    let uncounted = pairs(
        count,
        || run(Some(&["summary=off", "device=latch@0x5000"])),
        || run(None),
        |pair| progress.set(&format!("ports, counted or not: pair {} of {count}", pair + 1)),
    )?;
    drop(progress);
    let same_run = |of: fn(&Times) -> (f64, f64)| own.iter().map(of).collect::<Vec<_>>();
    let two_runs = |with: fn(&Times) -> f64, without: fn(&Times) -> f64| -> Vec<(f64, f64)> {
        uncounted.iter().map(|(a, b)| (middle(a, with), middle(b, without))).collect()
    };
    let (qemus, plain) = ("QEMU's latch, counted too", "QEMU's latch without the plugin");
    Ok(vec![
        Row::of(
            "out on the plugin's latch",
            qemus,
            "cycles",
            &same_run(|t| (t.out_other, t.out_qemu)),
        ),
        Row::of(
            "in on the plugin's latch",
            qemus,
            "cycles",
            &same_run(|t| (t.in_other, t.in_qemu)),
        ),
        Row::of(
            "out on the plugin's latch",
            plain,
            "cycles",
            &two_runs(|t| t.out_other, |t| t.out_qemu),
        ),
        Row::of(
            "in on the plugin's latch",
            plain,
            "cycles",
            &two_runs(|t| t.in_other, |t| t.in_qemu),
        ),
        Row::of(
            "out on QEMU's latch, counted",
            plain,
            "cycles",
            &two_runs(|t| t.out_qemu, |t| t.out_qemu),
        ),
        Row::of(
            "in on QEMU's latch, counted",
            plain,
            "cycles",
            &two_runs(|t| t.in_qemu, |t| t.in_qemu),
        ),
    ])
}

/// One round of the guest, in cycles for each access.
struct Times {
    out_qemu: f64,
    out_other: f64,
    in_qemu: f64,
    in_other: f64,
}

impl Times {
    /// How many accesses the guest times at once.
    const ACCESSES: f64 = 20_000.0;

    fn read(bytes: &[u8]) -> Vec<Times> {
        let cycles: Vec<f64> = bytes
            .chunks_exact(8)
            .map(|time| u64::from_le_bytes(time.try_into().expect("8 bytes")) as f64)
            .map(|time| time / Times::ACCESSES)
            .collect();
        cycles
            .chunks_exact(4)
            .map(|round| Times {
                out_qemu: round[0],
                out_other: round[1],
                in_qemu: round[2],
                in_other: round[3],
            })
            .collect()
    }
}
