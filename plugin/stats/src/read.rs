//! Reads and writes dumps. Every input yields a snapshot, or an error of one line.

use std::io;
use std::path::{Path, PathBuf};

use pvio_x86::PortForm;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;

use crate::check::{overflowing, overflowing_values};
use crate::schema::{
    AccessCounts, AccessRow, CallAccessRow, CallCallerRow, CallCounts, CallSiteRow, CallerRow,
    FormRow, HypercallRow, PortRow, PostRow, ProcessRow, SCHEMA, SectionRow, SiteRow, Snapshot,
    Tables, UndecidedFormRow, ValueRow, VcpuRow, parse_address,
};

/// A file that could not be read as a dump.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// The problem.
    pub problem: Problem,
}

/// The reason why an input is not a dump.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// The file has no contents.
    #[error("is empty; pvio writes the dump when QEMU ends")]
    Empty,
    /// The file ends before the dump does.
    #[error("is cut off: it ends within the dump, in line {line}")]
    Cut {
        /// The last line, from 1.
        line: usize,
    },
    /// The dump ends before the file does.
    #[error("has more data after the end of the dump; put each dump into a separate file")]
    Trailing,
    /// The file is not JSON.
    #[error("is not a dump of pvio: line {line} is not JSON")]
    NotJson {
        /// The line, from 1.
        line: usize,
    },
    /// The file is JSON of another kind.
    #[error("is not a dump of pvio: it has no field \"schema\" with the value {SCHEMA:?}")]
    Foreign,
    /// The dump has a schema that this version of pvio does not know.
    #[error("has the schema {0:?}; this version of pvio reads {SCHEMA:?}")]
    Schema(String),
    /// A field is missing or has a wrong value.
    #[error("is a damaged dump: {field}: {reason}")]
    Field {
        /// The path of the row or field, such as `windows[0].forms[3]`.
        field: String,
        /// The problem.
        reason: String,
    },
}

impl Snapshot {
    /// Reads a dump from a file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or is not a whole dump of this schema. Fields that this
    /// version does not know are ignored. Numbers that do not add up are not an error:
    /// [`Snapshot::discrepancies`] lists them.
    pub fn load(path: &Path) -> Result<Snapshot, ReadError> {
        let contents = std::fs::read(path).map_err(Problem::Io);
        contents
            .and_then(|contents| Snapshot::from_json(&contents))
            .map_err(|problem| ReadError { path: path.to_owned(), problem })
    }

    /// Reads a dump from its JSON.
    ///
    /// # Errors
    ///
    /// The same as for [`Snapshot::load`].
    pub fn from_json(json: &[u8]) -> Result<Snapshot, Problem> {
        match serde_json::from_slice::<Snapshot>(json) {
            Ok(snapshot) if snapshot.schema == SCHEMA => snapshot.validated(),
            Ok(snapshot) => Err(Problem::Schema(snapshot.schema.into_owned())),
            Err(error) => Err(diagnose(json, &error)),
        }
    }

    /// The dump as JSON, with a newline at the end.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("plain data becomes JSON");
        json.push(b'\n');
        json
    }

    /// Checks what the types cannot: the order of the forms, addresses, sums within 64 bits.
    fn validated(mut self) -> Result<Snapshot, Problem> {
        let wrong = |field: String, reason: &str| Problem::Field { field, reason: reason.into() };
        if self.runs == 0 {
            return Err(wrong("runs".into(), "a dump has at least one run"));
        }
        let values = self.values.iter().map(|row| &row.counts);
        if overflowing_values(values.chain([&self.values_dropped])) {
            return Err(wrong("values".into(), "the sum of a column does not fit in 64 bits"));
        }
        let windows = self.windows.iter().enumerate();
        let windows = windows.map(|(index, row)| (format!("windows[{index}]."), &row.tables));
        for (prefix, tables) in std::iter::once((String::new(), &self.tables)).chain(windows) {
            validate(tables)
                .map_err(|(field, reason)| wrong(format!("{prefix}{field}"), reason))?;
        }
        let windows = self.windows.iter_mut().map(|row| &mut row.tables);
        windows.chain([&mut self.tables]).for_each(complete);
        Ok(self)
    }
}

/// Completes the tables of an older pvio, which did not count by site and port, nor by call site.
fn complete(tables: &mut Tables) {
    if tables.accesses.is_empty() && tables.accesses_dropped == AccessCounts::default() {
        tables.accesses_dropped = AccessCounts {
            accesses: tables.instruction_accesses(),
            unverified: tables.ports.iter().map(|row| row.unverified).sum(),
        };
    }
    let has_call_sites =
        !tables.call_sites.is_empty() || tables.call_sites_dropped_counts != CallCounts::default();
    if !has_call_sites {
        let rows = tables.hypercalls.iter();
        let accesses = match tables.ports.is_empty() {
            true => tables.hypercall_accesses(),
            false => tables.ports.iter().map(|row| row.hypercall).sum(),
        };
        tables.call_accesses_dropped = accesses;
        tables.call_sites_dropped_counts = CallCounts {
            calls: rows.clone().map(|row| row.count).sum(),
            accesses,
            bytes: rows.map(|row| row.bytes).sum(),
        };
    }
}

type WrongField = (String, &'static str);

fn validate(tables: &Tables) -> Result<(), WrongField> {
    if !tables.forms.iter().map(|row| row.form).eq(PortForm::ALL) {
        return Err(("forms".into(), "these are not the 24 forms in their order"));
    }
    let not_an_address = "this is not a hexadecimal address after 0x";
    for (index, row) in tables.sites.iter().enumerate() {
        if row.address().is_none() {
            return Err((format!("sites[{index}].pc"), not_an_address));
        }
        let pairs = row.bytes.len().is_multiple_of(2) && !row.bytes.is_empty();
        if !pairs || !row.bytes.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err((format!("sites[{index}].bytes"), "these are not hexadecimal bytes"));
        }
    }
    for (index, row) in tables.ports.iter().enumerate() {
        let pc = row.first.as_ref().and_then(|first| first.pc.as_deref());
        if pc.is_some_and(|pc| parse_address(pc).is_none()) {
            return Err((format!("ports[{index}].first.pc"), not_an_address));
        }
    }
    for (index, row) in tables.processes.iter().enumerate() {
        if row.cr3.as_deref().is_some_and(|table| parse_address(table).is_none()) {
            return Err((format!("processes[{index}].cr3"), not_an_address));
        }
    }
    for (index, row) in tables.accesses.iter().enumerate() {
        if tables.site_of(row).is_none() {
            return Err((format!("accesses[{index}].site"), "there is no such row in sites"));
        }
    }
    for (index, row) in tables.callers.iter().enumerate() {
        let frames = row.frames.iter().map(|frame| &frame.pc);
        if frames.chain([&row.pc]).any(|pc| parse_address(pc).is_none()) {
            return Err((format!("callers[{index}]"), not_an_address));
        }
    }
    for (index, row) in tables.call_sites.iter().enumerate() {
        if row.address().is_none() {
            return Err((format!("call_sites[{index}].pc"), not_an_address));
        }
    }
    for (index, row) in tables.call_accesses.iter().enumerate() {
        if tables.call_site_of(row).is_none() {
            let reason = "there is no such row in call_sites";
            return Err((format!("call_accesses[{index}].site"), reason));
        }
    }
    for (index, row) in tables.call_callers.iter().enumerate() {
        let frames = row.frames.iter().map(|frame| &frame.pc);
        if frames.chain([&row.pc]).any(|pc| parse_address(pc).is_none()) {
            return Err((format!("call_callers[{index}]"), not_an_address));
        }
    }
    for (index, row) in tables.sections.iter().enumerate() {
        for (name, address) in [("start", &row.start), ("end", &row.end)] {
            if parse_address(address).is_none() {
                return Err((format!("sections[{index}].{name}"), not_an_address));
            }
        }
    }
    match overflowing(&[tables]) {
        Some(field) => Err((field.into(), "the sum of a column does not fit in 64 bits")),
        None => Ok(()),
    }
}

/// Finds out why JSON is not a snapshot. The parser's own message often lacks a position, because
/// serde buffers flattened fields.
fn diagnose(json: &[u8], error: &serde_json::Error) -> Problem {
    if json.iter().all(u8::is_ascii_whitespace) {
        return Problem::Empty;
    }
    let mut values = serde_json::Deserializer::from_slice(json).into_iter::<Value>();
    let value = match values.next() {
        Some(Ok(value)) => value,
        Some(Err(error)) if error.classify() == Category::Eof => {
            return Problem::Cut { line: error.line() };
        }
        Some(Err(error)) => return Problem::NotJson { line: error.line() },
        None => return Problem::Empty,
    };
    let rest = &json[values.byte_offset()..];
    match value.get("schema").and_then(Value::as_str) {
        None => Problem::Foreign,
        Some(schema) if schema != SCHEMA => Problem::Schema(schema.to_owned()),
        Some(_) if !rest.iter().all(u8::is_ascii_whitespace) => Problem::Trailing,
        Some(_) => {
            let (field, reason) = wrong_field(&value).unwrap_or_else(|| {
                let reason = error.to_string();
                let reason = reason.split(" at line ").next().unwrap_or_default();
                ("the dump".to_owned(), reason.to_owned())
            });
            Problem::Field { field, reason }
        }
    }
}

/// Returns the first invalid row or field, and the reason.
fn wrong_field(value: &Value) -> Option<(String, String)> {
    wrong_row(value).or_else(|| {
        let windows = value.get("windows")?.as_array()?.iter().enumerate();
        windows
            .flat_map(|(index, window)| {
                let (field, reason) = wrong_row(window)?;
                Some((format!("windows[{index}].{field}"), reason))
            })
            .next()
    })
}

fn wrong_row(tables: &Value) -> Option<(String, String)> {
    wrong_row_in::<VcpuRow>(tables, "vcpus")
        .or_else(|| wrong_row_in::<FormRow>(tables, "forms"))
        .or_else(|| wrong_row_in::<UndecidedFormRow>(tables, "forms_undecided"))
        .or_else(|| wrong_row_in::<PortRow>(tables, "ports"))
        .or_else(|| wrong_row_in::<SiteRow>(tables, "sites"))
        .or_else(|| wrong_row_in::<AccessRow>(tables, "accesses"))
        .or_else(|| wrong_row_in::<CallerRow>(tables, "callers"))
        .or_else(|| wrong_row_in::<ProcessRow>(tables, "processes"))
        .or_else(|| wrong_row_in::<ValueRow>(tables, "values"))
        .or_else(|| wrong_row_in::<PostRow>(tables, "post"))
        .or_else(|| wrong_row_in::<HypercallRow>(tables, "hypercalls"))
        .or_else(|| wrong_row_in::<CallSiteRow>(tables, "call_sites"))
        .or_else(|| wrong_row_in::<CallAccessRow>(tables, "call_accesses"))
        .or_else(|| wrong_row_in::<CallCallerRow>(tables, "call_callers"))
        .or_else(|| wrong_row_in::<SectionRow>(tables, "sections"))
}

fn wrong_row_in<R: DeserializeOwned>(tables: &Value, name: &str) -> Option<(String, String)> {
    let rows = tables.get(name)?.as_array()?.iter().enumerate();
    rows.flat_map(|(index, row)| {
        let error = serde_json::from_value::<R>(row.clone()).err()?;
        Some((format!("{name}[{index}]"), error.to_string()))
    })
    .next()
}

#[cfg(test)]
mod tests;
