//! `pvio bench`: measures the ratios that the README and docs/performance.md quote.

use anyhow::Result;
use clap::{Args, ValueEnum};
use pvio_cli::bench::{
    Row, callers, calls, compute, dispatch, insns, linux, mailbox, paravirt, ports, processes,
    readable, strings, trace, unclaimed, vcpus,
};
use pvio_cli::machine::{ANSWERING_API, Machine};
use pvio_cli::stats::QemuRow;
use pvio_cli::table::Table;
use pvio_cli::{paths, status};
use serde::Serialize;

/// Measures the plugin's costs and savings.
///
/// Each row compares a measured thing with a baseline. The two are measured alternately. The row has the median, minimum
/// and maximum of their ratio, its target, and the baseline itself.
#[derive(Args)]
pub struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Number of runs, or of pairs of runs, for each ratio
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(7..=1000))]
    pairs: u16,
    /// Measure only this subject; may be repeated
    #[arg(long, value_enum)]
    only: Vec<Subject>,
}

/// A subject to measure.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Hypercalls through registers, compared with instructions
    Calls,
    /// Hypercalls through the mailbox, compared with instructions
    Mailbox,
    /// The plugin's devices, compared with QEMU's, and the cost of counting
    Ports,
    /// Strings on the plugin's devices
    Strings,
    /// The cost of counting at ports without a device
    Unclaimed,
    /// One of 1,000 devices, compared with a single device
    Dispatch,
    /// Several vCPUs at once, each with its own device
    Vcpus,
    /// A boot of Linux
    Linux,
    /// Compression in Linux
    Compute,
    /// The cost of call chains
    Callers,
    /// The cost of counting by process
    Processes,
    /// The cost of counting every instruction
    Insns,
    /// The cost of recording a trace, and of reading one
    Trace,
    /// A Linux kernel whose port I/O is by hypercalls; only if it is named, because it must be built
    Paravirt,
}

/// All results.
#[derive(Serialize)]
struct Report {
    pvio: &'static str,
    qemu: QemuRow,
    /// Number of threads that the host runs at once.
    host_cpus: usize,
    /// The reason why rows are missing, if any are.
    left_out: Option<String>,
    rows: Vec<Row>,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if a guest fails, or if stdout cannot be written.
pub fn run(arguments: &Arguments) -> Result<()> {
    let report = measure(arguments)?;
    if arguments.json {
        return Ok(status::print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?);
    }
    let mut text = format!(
        "pvio {} on QEMU {}, {} host CPU{}\n\n",
        report.pvio,
        report.qemu.version.as_deref().unwrap_or("of unknown version"),
        report.host_cpus,
        if report.host_cpus == 1 { "" } else { "s" },
    );
    let head = ["measured", "baseline", "pairs", "median", "min", "max", "target", "baseline is"];
    let mut table = Table::new(head.map(str::to_owned)).left(2);
    for Row { what, over, unit, base, ratio, target } in &report.rows {
        table.row([
            (*what).to_owned(),
            (*over).to_owned(),
            ratio.pairs.to_string(),
            readable(ratio.median),
            readable(ratio.min),
            readable(ratio.max),
            target.map_or_else(String::new, readable),
            format!("{base:.2} {unit}"),
        ]);
    }
    text += &table.plain();
    if let Some(why) = &report.left_out {
        text += &format!("\n{why}\n");
    }
    Ok(status::print(&text)?)
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let qemu = paths::chosen_qemu()?;
    let count = usize::from(arguments.pairs);
    let wants = |subject| arguments.only.is_empty() || arguments.only.contains(&subject);
    // The shortest guest, to learn QEMU's version.
    let machine = Machine::new(&qemu).plugin(&["summary=off"]).args(["-accel", "tcg"]);
    let ended = machine.bare_guest(&paths::guest("poweroff.bin")?).run()?;
    let host = ended.stats()?.qemu.clone();

    let answers = host.plugin_api >= ANSWERING_API;

    let mut rows = Vec::new();
    if wants(Subject::Linux) {
        rows.extend(linux::rows(&qemu, count)?);
    }
    if wants(Subject::Compute) {
        rows.extend(compute::rows(&qemu, count)?);
    }
    if wants(Subject::Callers) {
        rows.extend(callers::rows(&qemu, count)?);
    }
    if wants(Subject::Processes) {
        rows.extend(processes::rows(&qemu, count)?);
    }
    if wants(Subject::Insns) {
        rows.extend(insns::rows(&qemu, count)?);
    }
    if wants(Subject::Trace) {
        rows.extend(trace::rows(&qemu, count)?);
    }
    if arguments.only.contains(&Subject::Paravirt) {
        // Before API 5, strings are instructions.
        let disk_target = if answers { 0.75 } else { 1.0 };
        rows.extend(paravirt::rows(&qemu, count, disk_target)?);
    }
    if wants(Subject::Unclaimed) {
        rows.extend(unclaimed::rows(&qemu, count)?);
    }
    if wants(Subject::Ports) {
        rows.extend(ports::rows(&qemu, count)?);
    }
    if wants(Subject::Strings) {
        rows.extend(strings::rows(&qemu, count)?);
    }
    if wants(Subject::Dispatch) {
        rows.extend(dispatch::rows(&qemu, count, answers)?);
    }
    if wants(Subject::Vcpus) {
        rows.extend(vcpus::rows(&qemu, count)?);
    }
    if wants(Subject::Calls) && answers {
        rows.extend(calls::rows(&qemu, count)?);
    }
    if wants(Subject::Mailbox) {
        // Before QEMU 11.1 the instruction itself is faster.
        let target = if host.plugin_api < 7 { 0.25 } else { 0.20 };
        rows.extend(mailbox::rows(&qemu, count, target)?);
    }
    let calls_wanted = wants(Subject::Calls) || wants(Subject::Dispatch);
    let left_out = (calls_wanted && !answers).then(|| {
        format!(
            "Hypercalls through registers are not measured: they need plugin API {ANSWERING_API} (QEMU 10.1) or newer, and this QEMU \
             has version {}.",
            host.plugin_api
        )
    });
    let host_cpus = std::thread::available_parallelism()?.get();
    Ok(Report { pvio: env!("CARGO_PKG_VERSION"), qemu: host, host_cpus, left_out, rows })
}
