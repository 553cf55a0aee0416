//! `pvio diff`: the changes between two dumps.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pvio_cli::diff::{Condition, Style, render, to_html, to_json};
use pvio_cli::stats::Diff;
use pvio_cli::{dumps, pager, status};

/// Compares two dumps (stats=FILE) or traces (trace=FILE) by form, port, site, caller, hypercall and window.
///
/// Sites match by symbol and offset if both dumps have symbols, so a kernel may be at another address in the
/// second dump. Otherwise they match by address.
///
/// A CONDITION is a total, an operator (>, <, >= or <=) and a limit. The limit +5% or -5% is a change in
/// percent of BEFORE, +100 or -100 is a change in counts, and 100 is a count in AFTER. Totals: accesses,
/// instruction-accesses, hypercall-accesses, executions, attempts, bytes, faults, exits, unverified,
/// hypercalls, instructions.
#[derive(Args)]
#[command(after_help = "\
Exit status:
  0    no condition holds
  1    a condition holds
  2    error: a bad file, a bad condition, a total that a dump does not have, an output that is also an input,
       a full disk
  141  stdout was closed early")]
pub struct Arguments {
    /// The first dump or trace
    #[arg(value_name = "BEFORE")]
    before: PathBuf,
    /// The second dump or trace
    #[arg(value_name = "AFTER")]
    after: PathBuf,
    /// Exit with status 1 if CONDITION holds, such as 'accesses>+5%' or 'faults>0'; may be repeated
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print one HTML page with charts and tables
    #[arg(long, conflicts_with = "json")]
    html: bool,
    /// List every changed row, not only the 16 largest changes of each table
    #[arg(long, conflicts_with_all = ["json", "html"])]
    all: bool,
    /// Write to FILE instead of stdout; FILE is replaced in one step
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if a condition or a dump cannot be read, or if stdout cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let conditions = arguments.fail_if.iter().map(|text| text.parse::<Condition>());
    let conditions = conditions.collect::<Result<Vec<_>, _>>()?;
    let before = dumps::load("diff", &arguments.before)?;
    let after = dumps::load("diff", &arguments.after)?;
    let both = [&before, &after];
    let verdicts = conditions.iter().map(|condition| condition.check(both));
    let verdicts = verdicts.collect::<Result<Vec<_>, _>>()?;
    let diff = Diff::new(&before, &after);
    let text = if arguments.json {
        to_json(both, &diff, &verdicts)
    } else if arguments.html {
        let names = [&arguments.before, &arguments.after].map(|path| path.display().to_string());
        to_html(both, [&names[0], &names[1]], &diff, &verdicts)
    } else {
        let colour = status::has_colour() && arguments.output.is_none();
        render(both, &diff, Style { colour, all: arguments.all })
    };
    match &arguments.output {
        Some(path) => {
            let inputs = [arguments.before.clone(), arguments.after.clone()];
            dumps::write(path, text.as_bytes(), &inputs)?;
        }
        None if arguments.json || arguments.html => status::print(&text)?,
        None => pager::print(&text)?,
    }
    let mut status = ExitCode::SUCCESS;
    for verdict in verdicts.iter().filter(|verdict| verdict.holds) {
        status::print_line("diff", &verdict.to_string());
        status = ExitCode::FAILURE;
    }
    Ok(status)
}
