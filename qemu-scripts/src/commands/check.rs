//! `pvio check`: which code accesses which ports, against a policy or an earlier run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use pvio_cli::check::{
    Against, BUILT_IN, Baseline, By, Origins, Policy, Style, Verdict, render, to_github, to_json,
};
use pvio_cli::stats::{Snapshot, Tables};
use pvio_cli::{dumps, pager, status, trace};

use super::dump_files::Inputs;

/// Checks which code accesses which ports, against a policy or against an earlier run.
///
/// An access is denied by the first rule of the policy that matches, or by its default. Each offence is listed with
/// its rule, port, direction, size, instruction, phase, address, symbol, callers and, in a trace, process. A read is
/// marked as an input: the host chooses its value.
///
/// With --baseline alone, an access is an offence if the earlier run did not make it; with --policy, too, if the
/// policy denies it and the earlier run did not make it.
#[derive(Args)]
#[command(after_help = "\
Exit status:
  0    no access is an offence
  1    an access is an offence
  2    error: a bad file, a bad policy, accesses of which the dump does not have the code, a full disk
  141  stdout was closed early")]
pub struct Arguments {
    #[command(flatten)]
    inputs: Inputs,
    /// The policy: a TOML file, or tdx or snp, which are built in
    #[arg(long, value_name = "FILE|tdx|snp", required_unless_present = "baseline")]
    policy: Option<PathBuf>,
    /// A dump or trace of an earlier run, whose accesses are no offences
    #[arg(long, value_name = "STATS")]
    baseline: Option<PathBuf>,
    /// What an access of the earlier run has in common with the same access of this one, beside direction and size
    #[arg(long, value_name = "WHAT", requires = "baseline", default_value = "symbol")]
    by: CompareBy,
    /// Check only this window of the statistics
    #[arg(long, value_name = "NAME")]
    window: Option<String>,
    /// List every offence with all its call chains, not only the ten with the most accesses
    #[arg(long, conflicts_with_all = ["json", "github"])]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print a workflow command for each offence, which GitHub shows as an annotation
    #[arg(long, conflicts_with = "json")]
    github: bool,
}

/// What the accesses of two runs have in common.
#[derive(Clone, Copy, ValueEnum)]
enum CompareBy {
    /// The port
    Port,
    /// The port and the function, or the program
    Symbol,
    /// The port, the function and the offset in it
    Site,
}

impl From<CompareBy> for By {
    fn from(by: CompareBy) -> By {
        match by {
            CompareBy::Port => By::Port,
            CompareBy::Symbol => By::Symbol,
            CompareBy::Site => By::Site,
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// Fails if a policy or a dump cannot be read, if the dump lacks the code of an access, or if stdout cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let policy = arguments.policy.as_deref().map(read_policy).transpose()?;
    let window = arguments.window.as_deref();
    let baseline = match &arguments.baseline {
        None => None,
        Some(path) => {
            let earlier = dumps::load("check", path)?;
            let tables = tables(&earlier, window).with_context(|| path.display().to_string())?;
            Some(Baseline::new(tables, arguments.by.into()))
        }
    };
    let sum = arguments.inputs.sum("check")?;
    let tables = tables(&sum, window)?;
    let origins = origins(&arguments.inputs, tables, window)?;
    let against = Against { policy: policy.as_ref(), baseline: baseline.as_ref() };
    let verdict = Verdict::new(tables, against, &origins);
    if arguments.json {
        status::print(&to_json(&verdict))?;
    } else if arguments.github {
        status::print(&to_github(&verdict))?;
    } else {
        let style = Style { colour: status::has_colour(), all: arguments.all };
        pager::print(&render(&verdict, style))?;
    }
    if !verdict.is_clean() {
        return Ok(ExitCode::FAILURE);
    }
    if verdict.unknown > 0 {
        bail!(
            "{} accesses cannot be checked, because their code did not fit into the tables of the dump",
            verdict.unknown
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a policy: a built-in one by its name, any other from its file.
fn read_policy(path: &Path) -> Result<Policy> {
    if let Some(policy) = path.to_str().and_then(Policy::built_in) {
        return Ok(policy);
    }
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| {
        let known = BUILT_IN.map(|(name, _)| name).join(" and ");
        format!("--policy {name}: cannot be read as a TOML file ({known} are built in)")
    })?;
    Ok(Policy::parse(&name, &text)?)
}

fn tables<'a>(dump: &'a Snapshot, window: Option<&str>) -> Result<&'a Tables> {
    let Some(name) = window else { return Ok(&dump.tables) };
    let found = dump.windows.iter().find(|window| window.name == name);
    found.map(|window| &window.tables).with_context(|| {
        let names: Vec<_> = dump.windows.iter().map(|window| &*window.name).collect();
        match names.is_empty() {
            true => format!("--window {name}: the run has no windows"),
            false => format!(
                "--window {name}: there is no such window; name one of {}",
                names.join(", ")
            ),
        }
    })
}

/// Finds who made the accesses: by access if every input is a whole trace, by code otherwise.
fn origins(inputs: &Inputs, tables: &Tables, window: Option<&str>) -> Result<Origins> {
    let mut origins = Origins::of_tables(tables);
    if window.is_none() && inputs.paths().iter().all(|path| trace::is_trace(path)) {
        for path in inputs.paths() {
            origins.add_trace(path)?;
        }
    }
    Ok(origins)
}
