//! Converts dumps and traces to formats for other programs.
//!
//! | format | of | for |
//! | --- | --- | --- |
//! | `csv`, `jsonl` | a table of a dump; the events of a trace | spreadsheets, DuckDB, pandas |
//! | `folded` | call chains | `flamegraph.pl`, speedscope |
//! | `flamegraph` | call chains | a browser |
//! | `parquet` | as `csv`, with Cargo feature `parquet` | DuckDB, Spark, Trino |
//! | `perfetto` | a trace | ui.perfetto.dev |

mod columns;
mod events;
mod flamegraph;
mod folded;
#[cfg(feature = "parquet")]
mod parquet;
mod perfetto;
mod rows;

use std::io::Write;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use crate::stats::trace::Trace;
use crate::trace::{is_trace, open};
pub use rows::NAMES as TABLES;
use rows::RowWriter;

/// A format to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Comma-separated values, with the columns' names in the first line
    Csv,
    /// JSON Lines: a JSON object in each line
    Jsonl,
    /// Parquet, a table in columns; needs a pvio that was built with Cargo feature parquet
    Parquet,
    /// Folded stacks: a line for each call chain, with its accesses
    Folded,
    /// A flame graph of the call chains, as SVG
    Flamegraph,
    /// A trace for the Perfetto viewer
    Perfetto,
}

/// The requested output.
#[derive(Clone, Debug)]
pub struct Request {
    /// The format.
    pub format: Format,
    /// The name of the table; `None` for the default.
    pub table: Option<String>,
    /// The window whose tables are written; `None` for those of the whole run.
    pub window: Option<String>,
}

/// Name of the table of a trace's events.
const EVENTS: &str = "events";

/// Converts a dump or a trace.
///
/// # Errors
///
/// Fails if the input is neither, if it does not have the requested table or window, or if the output cannot be written.
pub fn export(input: &Path, request: &Request, mut out: &mut dyn Write) -> Result<()> {
    let is_trace = is_trace(input);
    match request.format {
        Format::Perfetto => {
            ensure!(
                is_trace,
                "{}: this file is not a trace; --format perfetto needs one (trace=FILE)",
                input.display()
            );
            ensure!(
                request.table.is_none(),
                "--table works only with csv, jsonl and parquet; remove it"
            );
            perfetto::write(&mut opened(input)?, &mut out)
        }
        Format::Folded | Format::Flamegraph => {
            ensure!(
                request.table.is_none(),
                "--table works only with csv, jsonl and parquet; remove it"
            );
            let dump = crate::dumps::load("export", input)?;
            let tables = rows::tables(&dump, request.window.as_deref())?;
            match request.format {
                Format::Folded => folded::write(tables, &mut out),
                _ => flamegraph::write(tables, &mut out),
            }
        }
        Format::Csv | Format::Jsonl | Format::Parquet => {
            let table = match request.table.as_deref() {
                Some(EVENTS) | None if is_trace => EVENTS,
                None => bail!("--table is missing; name one of {}", rows::NAMES.join(", ")),
                Some(EVENTS) => bail!(
                    "{}: --table events needs a trace (trace=FILE), and this file is not one",
                    input.display()
                ),
                Some(table) => table,
            };
            let mut writer = match request.format {
                Format::Csv => RowWriter::csv(out),
                Format::Jsonl => RowWriter::lines(out),
                _ => parquet_writer(out, table)?,
            };
            match table {
                EVENTS => events::write(&mut opened(input)?, &mut writer)?,
                table => {
                    let dump = crate::dumps::load("export", input)?;
                    rows::write(&dump, table, request.window.as_deref(), &mut writer)?;
                }
            }
            writer.finish()
        }
    }
}

#[cfg(feature = "parquet")]
fn parquet_writer<W: Write>(out: W, table: &str) -> Result<RowWriter<W>> {
    let columns = match table {
        EVENTS => events::events_columns(),
        table => rows::columns_of(table)?,
    };
    RowWriter::parquet(out, &columns)
}

#[cfg(not(feature = "parquet"))]
fn parquet_writer<W: Write>(_: W, _: &str) -> Result<RowWriter<W>> {
    bail!(
        "--format parquet: this pvio was built without Parquet; build it with cargo build -p pvio-cli --features parquet"
    )
}

fn opened(input: &Path) -> Result<Trace> {
    open("export", input)
}
