//! The rates that a machine sends.

use serde_json::Value;

use super::Table;

/// The rates between two events.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// The time between the events.
    pub seconds: f64,
    /// All accesses.
    pub total: u64,
    /// The accesses between the events.
    pub change: u64,
    tables: [Vec<Row>; 3],
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The port, instruction or process, as it is shown.
    pub name: String,
    /// All its accesses.
    pub total: u64,
    /// Its accesses between two events.
    pub change: u64,
}

impl Rates {
    /// Reads the data of an event. What is missing is left out.
    pub fn of(data: &Value) -> Rates {
        let rows = |table: &str, name: fn(&Value) -> String| {
            let rows = data[table].as_array().into_iter().flatten();
            let row = |row: &Value| Row {
                // The text may be the guest's.
                name: name(row).chars().map(|c| if c.is_control() { '?' } else { c }).collect(),
                total: number(row, "accesses"),
                change: number(row, "change"),
            };
            rows.map(row).collect::<Vec<Row>>()
        };
        Rates {
            seconds: data["seconds"].as_f64().unwrap_or(0.0),
            total: number(data, "accesses"),
            change: number(data, "change"),
            tables: [rows("ports", port), rows("sites", site), rows("processes", process)],
        }
    }

    /// Returns the rows of a table.
    pub fn table(&self, table: Table) -> &[Row] {
        &self.tables[table as usize]
    }

    /// Returns a count per second.
    pub fn per_second(&self, change: u64) -> u64 {
        match self.seconds > 0.0 {
            true => (change as f64 / self.seconds).round() as u64,
            false => 0,
        }
    }
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or(0)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn port(row: &Value) -> String {
    let (port, size) = (number(row, "port"), number(row, "size"));
    let line = format!("{port:#06x} {:<3} {size}  {}", text(row, "dir"), text(row, "name"));
    line.trim_end().to_owned()
}

fn site(row: &Value) -> String {
    let place = match row["file"].as_str() {
        Some(file) => format!("{file}+{}", text(row, "offset")),
        None => text(row, "pc").to_owned(),
    };
    let line = format!("{place}  {:<13} {}", text(row, "form"), text(row, "symbol"));
    line.trim_end().to_owned()
}

fn process(row: &Value) -> String {
    match (row["pid"].as_u64(), row["cr3"].as_str()) {
        (Some(pid), _) => format!("{pid} {}", text(row, "comm")),
        (None, Some(table)) => format!("page table {table}"),
        (None, None) => "unpaged".to_owned(),
    }
}
