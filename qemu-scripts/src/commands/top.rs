//! `pvio top`: accesses per second of a machine that runs.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use pvio_cli::live::{Connection, find};
use pvio_cli::status;
use pvio_cli::top::{Rates, Sort, Table, Top, batch, run as run_screen};
use serde_json::json;

/// The most rows that the machine sends.
const ROWS: usize = 1000;

/// Shows accesses per second of a machine that runs: by port, by instruction, by process.
#[derive(Args)]
#[command(after_help = "\
SOCKET is the path of the plugin's option control=PATH. Without it, it is $PVIO_CONTROL, or the socket of the only
machine that qemu-scripts/run has started.

Keys:
  q, ^C       quit             /    filter rows by a text; esc: no filter
  tab         next table       p    pause
  s           sort by another  r    reverse the order
  arrows, page up, page down, home   scroll

Exit status:
  0    the user has quit, or the last of --batch is printed, or the machine has ended
  2    error: no machine, no terminal
  141  stdout was closed early")]
pub struct Arguments {
    /// The control socket of the machine
    socket: Option<PathBuf>,
    /// The table to show first
    #[arg(long, value_enum, default_value_t)]
    by: Table,
    /// What to sort by
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Seconds between two updates, from 0.05 to 3600
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1.0, value_parser = delay)]
    delay: f64,
    /// Print tables to stdout instead of a screen
    #[arg(long)]
    batch: bool,
    /// End after N tables of --batch
    #[arg(short = 'n', long, value_name = "N", requires = "batch")]
    iterations: Option<u64>,
    /// The most rows of a table of --batch
    #[arg(long, value_name = "N", default_value_t = 20, requires = "batch")]
    rows: usize,
}

fn delay(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.05..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "write a number from 0.05 to 3600".to_owned())
}

/// Runs the command.
///
/// # Errors
///
/// Fails if no machine answers, or if the terminal or stdout cannot be used.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let has_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    ensure!(
        arguments.batch || has_terminal,
        "stdout is not a terminal; write --batch to print tables"
    );
    let path = find(arguments.socket.as_deref())?;
    let mut connection = Connection::open(&path)?;
    let title =
        subscribe(&mut connection, arguments).with_context(|| path.display().to_string())?;
    let Arguments { by, sort, .. } = *arguments;
    let top = Top { title, table: by, sort, ..Top::default() };
    match arguments.batch {
        true => run_batch(connection, top, arguments)?,
        false => run_screen(connection, top, &path)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Subscribes. Returns the title.
fn subscribe(connection: &mut Connection, arguments: &Arguments) -> Result<String> {
    let about = connection.ask("status", json!({}))?;
    let interval = (arguments.delay * 1000.0) as u64;
    connection.ask("subscribe", json!({ "interval-ms": interval, "rows": ROWS }))?;
    let qemu = about["qemu"].as_str().unwrap_or("?");
    Ok(format!("pvio top   QEMU {qemu}, pid {}", about["pid"]))
}

fn run_batch(mut connection: Connection, mut top: Top, arguments: &Arguments) -> Result<()> {
    let mut left = arguments.iterations;
    // The first event has totals and no rates.
    let mut is_first = true;
    while left != Some(0) {
        // An error is the machine's end.
        let Ok((name, data)) = connection.next_event() else { return Ok(()) };
        if name != "rates" || std::mem::take(&mut is_first) {
            continue;
        }
        top.update(Rates::of(&data));
        status::print(&batch(&top, arguments.rows))?;
        left = left.map(|left| left - 1);
    }
    Ok(())
}
