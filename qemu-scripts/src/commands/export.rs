//! `pvio export`: a dump or a trace for other programs.

use std::cell::Cell;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use pvio_cli::dumps;
use pvio_cli::export::{Format, Request, export};
use pvio_cli::status::StdoutError;

/// Writes a dump (stats=FILE) or a trace (trace=FILE) in a format of other programs.
#[derive(Args)]
#[command(after_help = "\
Tables of a dump, and of a trace's statistics: forms, ports, sites, accesses, callers, processes, hypercalls, vcpus,
sections, values, windows. A trace also has the table events, which is written if none is named.

Exit status:
  0    the output is written
  2    error: a bad file, no such table, an output that is also an input, a full disk
  141  stdout was closed early")]
pub struct Arguments {
    /// The dump or the trace
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// The format
    #[arg(short, long, value_enum)]
    format: Format,
    /// The table, for csv and jsonl
    #[arg(short, long, value_name = "NAME")]
    table: Option<String>,
    /// Take the tables of this window
    #[arg(short, long, value_name = "NAME")]
    window: Option<String>,
    /// Write to FILE instead of stdout; FILE is replaced in one step
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// Fails if the input does not have what is asked for, or if the output cannot be written.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { input, format, table, window, output } = arguments;
    let request = Request { format: *format, table: table.clone(), window: window.clone() };
    ensure!(
        window.is_none() || (*format != Format::Perfetto && table.as_deref() != Some("events")),
        "--window is for tables of statistics; a trace's events have windows among them"
    );
    match output {
        Some(path) => {
            dumps::write_with(path, std::slice::from_ref(input), |out| {
                export(input, &request, out)
            })?;
        }
        None => {
            let failed = Cell::new(None);
            let stdout = Stdout { out: io::stdout().lock(), failed: &failed };
            let mut out = BufWriter::with_capacity(1 << 16, stdout);
            let result = export(input, &request, &mut out).and_then(|()| Ok(out.flush()?));
            // What is buffered cannot be written either.
            let _ = out.into_parts();
            if let Some(error) = failed.take() {
                return Err(StdoutError::from(error).into());
            }
            result?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Stdout, which keeps its first error: other libraries pack it in their own.
struct Stdout<'a> {
    out: StdoutLock<'static>,
    failed: &'a Cell<Option<io::Error>>,
}

impl Write for Stdout<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).map_err(|error| {
            let kind = error.kind();
            self.failed.set(Some(error));
            kind.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
