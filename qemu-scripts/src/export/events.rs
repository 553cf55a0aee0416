//! The events of a trace as rows of a table.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use super::columns::{Column, Kind, columns};
use super::rows::RowWriter;
use crate::stats::trace::Trace;
use crate::trace::{Line, Names, describe};

/// One event as a row. Addresses are hexadecimal text, as in dumps.
#[derive(Default, Serialize)]
struct Row<'a> {
    vcpu: Option<u32>,
    guest_ns: Option<u64>,
    host_ns: u64,
    event: &'a str,
    dir: Option<&'a str>,
    port: Option<u16>,
    size: Option<u8>,
    value: Option<u32>,
    by: Option<&'a str>,
    pc: Option<String>,
    symbol: Option<&'a str>,
    process: Option<String>,
    stack: Option<String>,
    text: Option<String>,
}

/// The columns, in the order of [`Row`].
const COLUMNS: [(&str, Kind); 14] = [
    ("vcpu", Kind::Integer),
    ("guest_ns", Kind::Integer),
    ("host_ns", Kind::Integer),
    ("event", Kind::Text),
    ("dir", Kind::Text),
    ("port", Kind::Integer),
    ("size", Kind::Integer),
    ("value", Kind::Integer),
    ("by", Kind::Text),
    ("pc", Kind::Text),
    ("symbol", Kind::Text),
    ("process", Kind::Text),
    ("stack", Kind::Text),
    ("text", Kind::Text),
];

/// Returns the columns of the table.
pub fn events_columns() -> Vec<Column> {
    columns(COLUMNS)
}

/// Writes a row for each event.
///
/// # Errors
///
/// Fails if the output cannot be written.
pub fn write<W: Write>(trace: &mut Trace, out: &mut RowWriter<W>) -> Result<()> {
    let (head, end) = (trace.head().clone(), trace.end().cloned());
    let names = Names::new(&head, end.as_ref());
    out.columns(COLUMNS.map(|(name, _)| name.to_owned()).to_vec())?;
    let mut result = Ok(());
    trace.read(|event, vcpu, definitions| {
        let line = describe(event, vcpu, definitions, &names);
        result = out.row(&row(&line, event.guest, event.host));
        result.is_ok()
    });
    result
}

fn row<'a>(line: &'a Line<'_>, guest_ns: Option<u64>, host_ns: u64) -> Row<'a> {
    let stack: Vec<_> = line.stack.iter().map(|frame| frame.name()).collect();
    Row {
        vcpu: line.vcpu,
        guest_ns,
        host_ns,
        event: line.event,
        dir: line.access.map(|access| access.direction_name()),
        port: line.access.and_then(|access| access.port).map(|port| port.0),
        size: line.access.and_then(|access| access.size.bytes()),
        value: line.access.and_then(|access| access.value),
        by: line.by,
        pc: line.pc.map(|pc| format!("{pc:#x}")),
        symbol: line.symbol,
        process: line.process.map(ToString::to_string),
        stack: (!stack.is_empty()).then(|| stack.join(";")),
        text: line.text.clone(),
    }
}
