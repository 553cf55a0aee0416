//! Rows of tables as CSV, as JSON lines and as Parquet.

use std::fmt;
use std::io::Write;

#[cfg(feature = "parquet")]
use anyhow::Context;
use anyhow::{Result, bail};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

#[cfg(feature = "parquet")]
use super::columns::{Column, Kind, columns, of_table};
#[cfg(feature = "parquet")]
use super::parquet::ParquetWriter;
use crate::stats::{Snapshot, Tables};

/// The names of the tables of a dump.
pub const NAMES: [&str; 14] = [
    "forms",
    "ports",
    "sites",
    "accesses",
    "callers",
    "processes",
    "hypercalls",
    "call_sites",
    "call_accesses",
    "call_callers",
    "vcpus",
    "sections",
    "values",
    "windows",
];

/// The tables of a dump, or of a window in it.
///
/// # Errors
///
/// Fails if there is no such window.
pub fn tables<'a>(dump: &'a Snapshot, window: Option<&str>) -> Result<&'a Tables> {
    let Some(name) = window else { return Ok(dump) };
    match dump.windows.iter().find(|window| window.name == name) {
        Some(window) => Ok(window),
        None if dump.windows.is_empty() => {
            bail!("--window {name}: the dump has no windows; remove --window")
        }
        None => {
            let names: Vec<_> = dump.windows.iter().map(|window| &*window.name).collect();
            bail!("--window {name}: there is no such window; name one of {}", names.join(", "))
        }
    }
}

/// Writes a table.
///
/// # Errors
///
/// Fails if there is no such table or window, or if the output cannot be written.
pub fn write<W: Write>(
    dump: &Snapshot,
    table: &str,
    window: Option<&str>,
    out: &mut RowWriter<W>,
) -> Result<()> {
    let tables = tables(dump, window)?;
    match table {
        "forms" => out.rows(&tables.forms),
        "ports" => out.rows(&tables.ports),
        "sites" => out.rows(&tables.sites),
        "accesses" => out.rows(&tables.accesses),
        "callers" => out.rows(&tables.callers),
        "processes" => out.rows(&tables.processes),
        "hypercalls" => out.rows(&tables.hypercalls),
        "call_sites" => out.rows(&tables.call_sites),
        "call_accesses" => out.rows(&tables.call_accesses),
        "call_callers" => out.rows(&tables.call_callers),
        "vcpus" => out.rows(&tables.vcpus),
        "sections" => out.rows(&tables.sections),
        "values" if window.is_none() => out.rows(&dump.values),
        "windows" if window.is_none() => {
            let rows: Vec<_> = dump
                .windows
                .iter()
                .map(|window| WindowSummary {
                    name: &window.name,
                    entries: window.entries,
                    open: window.open,
                    executions: window.forms.iter().map(|row| row.executions).sum(),
                    accesses: window.forms.iter().map(|row| row.accesses).sum(),
                    hypercalls: window.hypercalls.iter().map(|row| row.count).sum(),
                })
                .collect();
            out.rows(&rows)
        }
        "values" | "windows" => {
            bail!("--table {table}: windows do not have this table; remove --window")
        }
        _ => bail!(no_such_table(table)),
    }
}

/// Returns the columns of a table.
///
/// # Errors
///
/// Fails if there is no such table.
#[cfg(feature = "parquet")]
pub fn columns_of(table: &str) -> Result<Vec<Column>> {
    if table == "windows" {
        return Ok(columns([
            ("name", Kind::Text),
            ("entries", Kind::Integer),
            ("open", Kind::Boolean),
            ("executions", Kind::Integer),
            ("accesses", Kind::Integer),
            ("hypercalls", Kind::Integer),
        ]));
    }
    let columns = of_table(table).filter(|_| NAMES.contains(&table));
    columns.with_context(|| no_such_table(table))
}

fn no_such_table(table: &str) -> String {
    format!("--table {table}: there is no such table; name one of {}", NAMES.join(", "))
}

/// A window, without its tables.
#[derive(Serialize)]
struct WindowSummary<'a> {
    name: &'a str,
    entries: u64,
    open: bool,
    executions: u64,
    accesses: u64,
    hypercalls: u64,
}

/// Writes rows in one of the formats.
pub struct RowWriter<W: Write> {
    csv: Option<csv::Writer<W>>,
    lines: Option<W>,
    #[cfg(feature = "parquet")]
    parquet: Option<ParquetWriter<W>>,
    /// The names of the CSV columns, once they are written.
    columns: Vec<String>,
}

impl<W: Write> RowWriter<W> {
    /// Makes a writer of CSV.
    pub fn csv(out: W) -> RowWriter<W> {
        let csv = csv::WriterBuilder::new().from_writer(out);
        RowWriter { csv: Some(csv), ..RowWriter::none() }
    }

    /// Makes a writer of JSON Lines.
    pub fn lines(out: W) -> RowWriter<W> {
        RowWriter { lines: Some(out), ..RowWriter::none() }
    }

    /// Makes a writer of a Parquet file of rows with these columns.
    ///
    /// # Errors
    ///
    /// Fails if there is no column.
    #[cfg(feature = "parquet")]
    pub fn parquet(out: W, columns: &[Column]) -> Result<RowWriter<W>> {
        let parquet = Some(ParquetWriter::new(out, columns)?);
        Ok(RowWriter { parquet, ..RowWriter::none() })
    }

    fn none() -> RowWriter<W> {
        RowWriter {
            csv: None,
            lines: None,
            #[cfg(feature = "parquet")]
            parquet: None,
            columns: Vec::new(),
        }
    }

    /// Writes all rows of a table. In CSV, the columns are the fields of all rows.
    pub fn rows<R: Serialize>(&mut self, rows: &[R]) -> Result<()> {
        if self.csv.is_some() {
            let mut columns: Vec<String> = Vec::new();
            for row in rows {
                for (name, _) in ordered(row)?.0 {
                    if !columns.contains(&name) {
                        columns.push(name);
                    }
                }
            }
            self.columns(columns)?;
        }
        rows.iter().try_for_each(|row| self.row(row))
    }

    /// Writes the line of column names, in CSV.
    pub fn columns(&mut self, columns: Vec<String>) -> Result<()> {
        if let Some(csv) = &mut self.csv {
            csv.write_record(&columns)?;
            self.columns = columns;
        }
        Ok(())
    }

    /// Writes a row.
    pub fn row(&mut self, row: &impl Serialize) -> Result<()> {
        if let Some(out) = &mut self.lines {
            serde_json::to_writer(&mut *out, row)?;
            out.write_all(b"\n")?;
        }
        if let Some(csv) = &mut self.csv {
            let row = ordered(row)?.0;
            let field = |column: &String| {
                row.iter().find(|(name, _)| name == column).map(|(_, value)| text(value))
            };
            csv.write_record(self.columns.iter().map(|column| field(column).unwrap_or_default()))?;
        }
        #[cfg(feature = "parquet")]
        if let Some(parquet) = &mut self.parquet {
            parquet.row(row)?;
        }
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(mut self) -> Result<()> {
        if let Some(csv) = &mut self.csv {
            csv.flush()?;
        }
        #[cfg(feature = "parquet")]
        if let Some(parquet) = self.parquet {
            parquet.finish()?;
        }
        Ok(())
    }
}

/// The fields of a row, in their order.
struct Ordered(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ordered, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Ordered(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

fn ordered(row: &impl Serialize) -> Result<Ordered> {
    Ok(serde_json::from_slice(&serde_json::to_vec(row)?)?)
}

/// Formats a CSV field. List items are separated by semicolons; a caller is shown by its symbol or address.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(text).collect::<Vec<_>>().join(";"),
        Value::Object(fields) => {
            let name = fields.get("symbol").filter(|name| !name.is_null());
            name.or_else(|| fields.get("pc")).map_or_else(|| value.to_string(), text)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::test_data::snapshot;

    fn written(is_csv: bool, table: &str) -> String {
        let mut out = Vec::new();
        let mut writer = if is_csv { RowWriter::csv(&mut out) } else { RowWriter::lines(&mut out) };
        write(&snapshot(1000), table, None, &mut writer).unwrap();
        writer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_table_has_a_line_for_each_row_and_csv_one_of_names() {
        let dump = serde_json::to_value(snapshot(1000)).unwrap();
        for table in NAMES {
            let rows = dump[table].as_array().unwrap().len();
            assert_eq!(written(false, table).lines().count(), rows, "{table}");
            let csv = written(true, table);
            let mut reader = csv::Reader::from_reader(csv.as_bytes());
            assert_eq!(reader.records().map(Result::unwrap).count(), rows, "{table}");
        }
    }

    #[test]
    fn json_lines_are_the_rows_of_the_dump() {
        let dump = snapshot(1000);
        let lines = written(false, "sites");
        let rows: Vec<crate::stats::SiteRow> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows, dump.sites);
    }

    #[test]
    fn wrong_names_say_which_would_be_right() {
        let dump = snapshot(1000);
        let error = |table, window| {
            let mut writer = RowWriter::csv(Vec::new());
            write(&dump, table, window, &mut writer).unwrap_err().to_string()
        };
        assert!(
            error("port", None).contains("name one of forms, ports"),
            "{}",
            error("port", None)
        );
        assert!(error("ports", Some("x")).starts_with("--window x: "));
    }
}
