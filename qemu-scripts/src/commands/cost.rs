//! `pvio cost`: what a run's port I/O would cost as VM exits.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::Args;
use pvio_cli::cost::amount::Decimal;
use pvio_cli::cost::clusters::{Clusters, Rule, add_trace};
use pvio_cli::cost::groups::Groups;
use pvio_cli::cost::json::to_json;
use pvio_cli::cost::list::{list, model_json};
use pvio_cli::cost::model::{BUILT_IN, Model, built_in};
use pvio_cli::cost::page::Format;
use pvio_cli::cost::report::{NamedRun, Run, Style, render, render_each};
use pvio_cli::{dumps, pager, status, trace};

/// Estimates what the port I/O of dumps (stats=FILE) or traces (trace=FILE) would cost as VM exits under a hypervisor.
///
/// The tables show cost by form, port, site and caller, the sites to change first, and what hypercalls save. For a trace
/// they also show clusters, which are accesses that one
/// exit could serve, such as batches, and loops that string instructions could replace. Several inputs are added up.
///
/// A MODEL is one of --list-models, or a TOML file (its name has a slash or a dot). Every figure of a model has a
/// source, which the output names. A figure that nobody has published is -, and so is what needs it.
#[derive(Args)]
#[command(after_help = "\
Exit status:
  0    the tables are printed
  2    error: a bad file, an unknown model, a mistake in a model, an output that is also an input, a full disk
  141  stdout was closed early")]
pub struct Arguments {
    /// Dumps or traces to read; if there are several, they are added up
    #[arg(value_name = "STATS")]
    inputs: Vec<PathBuf>,
    /// The hypervisor; may be repeated to compare several
    #[arg(short, long, value_name = "MODEL")]
    model: Vec<String>,
    /// Use the model that a guest has printed to a serial line, whose log is FILE; may be repeated
    #[arg(long, value_name = "FILE")]
    measure: Vec<PathBuf>,
    /// Write the model of --measure to FILE
    #[arg(long, value_name = "FILE", requires = "measure")]
    write_model: Option<PathBuf>,
    /// The processor's frequency, for models in cycles that do not have it
    #[arg(long, value_name = "MHZ", value_parser = decimal)]
    mhz: Option<Decimal>,
    /// List the models, their figures and the sources of these
    #[arg(long, conflicts_with_all = ["inputs", "print_model"])]
    list_models: bool,
    /// Print a model's file
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["inputs", "model", "measure"])]
    print_model: Option<String>,
    /// Number of sites to change first
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Show a row for each input, in place of their sum
    #[arg(long, conflicts_with = "json")]
    each: bool,
    /// List every row, not only the 16 with the largest cost of each table
    #[arg(long)]
    all: bool,
    /// Largest distance of two instructions in a cluster, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    near: u64,
    /// Longest time between two accesses of a cluster, in microseconds of the host's clock
    #[arg(long, value_name = "US", default_value_t = 20)]
    within: u32,
    /// Largest number of accesses in a cluster; the default is that of records in a batch
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u64).range(2..))]
    most: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Write to FILE instead of stdout; FILE is replaced in one step
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn decimal(text: &str) -> Result<Decimal, String> {
    Decimal::parse(text).map_err(|error| format!("{error}; write, for example, 2400"))
}

/// Runs the command.
///
/// # Errors
///
/// Fails if an input or a model cannot be read, or if the output cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let text = if let Some(name) = &arguments.print_model {
        model_text(name)?
    } else if arguments.list_models {
        listed(arguments)?
    } else {
        let models = models(arguments)?;
        if arguments.inputs.is_empty() && arguments.write_model.is_some() {
            return Ok(ExitCode::SUCCESS);
        }
        report(arguments, &models)?
    };
    match &arguments.output {
        Some(path) => dumps::write(path, text.as_bytes(), &arguments.inputs)?,
        None if arguments.json || arguments.markdown => status::print(&text)?,
        None => pager::print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn format(&self) -> Format {
        match self.markdown {
            true => Format::Markdown,
            false => Format::Text { colour: status::has_colour() && self.output.is_none() },
        }
    }
}

fn model_text(name: &str) -> Result<String> {
    // A name that is wrong gets the same line as --model.
    let model = Model::named(name)?;
    let built_in = BUILT_IN.iter().find(|(built_in, _)| *built_in == model.name);
    match built_in {
        Some((_, text)) if name == model.name => Ok((*text).to_owned()),
        _ => Ok(std::fs::read_to_string(name)?),
    }
}

fn listed(arguments: &Arguments) -> Result<String> {
    let models = match arguments.model.is_empty() && arguments.measure.is_empty() {
        true => built_in(),
        false => models(arguments)?,
    };
    match arguments.json {
        true => {
            let models = models.iter().map(model_json).collect::<serde_json::Value>();
            Ok(format!("{models:#}\n"))
        }
        false => Ok(list(&models, arguments.format())),
    }
}

fn models(arguments: &Arguments) -> Result<Vec<Model>> {
    let mut models = Vec::new();
    for name in &arguments.model {
        models.push(Model::named(name)?);
    }
    ensure!(
        arguments.write_model.is_none() || arguments.measure.len() == 1,
        "--write-model writes one model; give --measure once"
    );
    for log in &arguments.measure {
        let (model, text) = Model::measured(log)?;
        models.push(model);
        if let Some(output) = &arguments.write_model {
            dumps::write(output, text.as_bytes(), std::slice::from_ref(log))?;
        }
    }
    if models.is_empty() {
        bail!("which hypervisor? Add --model kvm-intel, for example; --list-models lists all");
    }
    if let Some(mhz) = arguments.mhz {
        models.iter_mut().for_each(|model| model.set_mhz(mhz));
    }
    Ok(models)
}

fn report(arguments: &Arguments, models: &[Model]) -> Result<String> {
    let inputs = &arguments.inputs;
    ensure!(!inputs.is_empty(), "no dump is named; give files that stats=FILE or trace=FILE wrote");
    let style = Style { format: arguments.format(), top: arguments.top, all: arguments.all };
    let within = u64::from(arguments.within) * 1000;
    let rule = Rule { near: arguments.near, within, most: arguments.most };
    if arguments.each {
        let runs = inputs.iter().map(|path| named_run(path, rule)).collect::<Result<Vec<_>>>()?;
        return Ok(render_each(&runs, models, style));
    }
    let dump = dumps::load_sum("cost", inputs)?;
    let traces: Vec<&PathBuf> = inputs.iter().filter(|path| trace::is_trace(path)).collect();
    let mut clusters = Clusters::new(rule);
    for path in &traces {
        add_trace(&mut clusters, path)?;
    }
    let groups = Groups::of(&dump);
    let run = Run {
        dump: &dump,
        groups: &groups,
        models,
        clusters: (!traces.is_empty()).then_some(&clusters),
        is_mixed: !traces.is_empty() && traces.len() < inputs.len(),
    };
    Ok(match arguments.json {
        true => to_json(&run, arguments.top),
        false => render(&run, style),
    })
}

/// Reads an input that has a row of its own. Its name is the file's, without the extension.
fn named_run(path: &Path, rule: Rule) -> Result<NamedRun> {
    let dump = dumps::load("cost", path)?;
    let clusters = match trace::is_trace(path) {
        true => {
            let mut clusters = Clusters::new(rule);
            add_trace(&mut clusters, path)?;
            Some(clusters)
        }
        false => None,
    };
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(NamedRun { name, groups: Groups::of(&dump), dump, clusters })
}
