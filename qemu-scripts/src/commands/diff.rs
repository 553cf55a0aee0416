//! `pvio diff`: the changes between two dumps.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use pvio_cli::diff::{Condition, Style, render, to_json};
use pvio_cli::stats::Diff;
use pvio_cli::{dumps, pager, status};

/// Compares two dumps (stats=FILE) by form, port, site, hypercall and window.
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
  2    error: a bad file, a bad condition, a total that a dump does not have, a full disk
  141  stdout was closed early")]
pub struct Arguments {
    /// The first dump
    #[arg(value_name = "BEFORE")]
    before: PathBuf,
    /// The second dump
    #[arg(value_name = "AFTER")]
    after: PathBuf,
    /// Exit with status 1 if CONDITION holds, such as 'accesses>+5%' or 'faults>0'; may be repeated
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// List every changed row, not only the 16 largest changes of each table
    #[arg(long, conflicts_with = "json")]
    all: bool,
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
    match arguments.json {
        true => status::print(&to_json(both, &diff, &verdicts))?,
        false => {
            let style = Style { colour: status::has_colour(), all: arguments.all };
            pager::print(&render(both, &diff, style))?;
        }
    }
    let mut status = ExitCode::SUCCESS;
    for verdict in verdicts.iter().filter(|verdict| verdict.holds) {
        status::print_line("diff", &verdict.to_string());
        status = ExitCode::FAILURE;
    }
    Ok(status)
}
