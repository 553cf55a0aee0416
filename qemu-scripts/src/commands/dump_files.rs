//! Arguments that the commands for dumps share.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use pvio_cli::stats::Snapshot;
use pvio_cli::{dumps, guest_test, status, trace};

/// The dumps and traces that a command adds up.
#[derive(Args)]
pub struct Inputs {
    /// Dumps or traces to read; if there are several, they are added up
    #[arg(value_name = "STATS", required = true)]
    dumps: Vec<PathBuf>,
}

impl Inputs {
    /// Reads the dumps and traces, and adds them up.
    ///
    /// # Errors
    ///
    /// Fails if a file is neither a complete dump nor a trace, or if a sum does not fit in 64 bits.
    pub fn sum(&self, program: &str) -> Result<Snapshot> {
        dumps::load_sum(program, &self.dumps)
    }

    /// Returns the only input, if it is a trace.
    pub fn only_trace(&self) -> Option<&Path> {
        match &self.dumps[..] {
            [path] if trace::is_trace(path) => Some(path),
            _ => None,
        }
    }

    /// Returns true if the inputs are reports in XML, false if none is.
    ///
    /// # Errors
    ///
    /// Fails if only some are.
    pub fn are_xml(&self) -> Result<bool> {
        let (reports, dumps): (Vec<_>, Vec<_>) =
            self.dumps.iter().partition(|path| guest_test::is_xml(path));
        if let ([report, ..], [dump, ..]) = (&reports[..], &dumps[..]) {
            bail!(
                "{} is a report and {} is not: merge reports with reports, and dumps with dumps",
                report.display(),
                dump.display()
            );
        }
        Ok(dumps.is_empty())
    }

    /// Returns the paths.
    pub fn paths(&self) -> &[PathBuf] {
        &self.dumps
    }

    /// Returns the paths as text.
    pub fn names(&self) -> Vec<String> {
        self.dumps.iter().map(|path| path.display().to_string()).collect()
    }
}

/// The file that a command writes.
#[derive(Args)]
pub struct Output {
    /// Write to FILE instead of stdout; FILE is replaced in one step
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Output {
    /// Writes the result of a command.
    ///
    /// # Errors
    ///
    /// Fails if the output is one of the inputs, or if it cannot be written.
    pub fn write(&self, contents: &[u8], inputs: &Inputs) -> Result<()> {
        match &self.output {
            Some(path) => dumps::write(path, contents, &inputs.dumps),
            None => Ok(status::print_bytes(contents)?),
        }
    }
}
