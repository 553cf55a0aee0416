//! Traces as text, and their statistics.

mod line;
mod script;

use std::io::Read;
use std::path::Path;

use anyhow::Result;

use crate::stats::Snapshot;
use crate::stats::trace::{MAGIC, Trace, statistics};
use crate::status;

pub use line::{Access, Caller, Line, Names, describe};
pub use script::print;

/// Returns true if a file starts with the magic number of a trace.
pub fn is_trace(path: &Path) -> bool {
    let mut start = [0; 4];
    let file = std::fs::File::open(path);
    file.and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == MAGIC
}

/// Opens a trace. Warns on stderr if parts of it are missing.
///
/// # Errors
///
/// Fails if the file is not a trace, or if its head is incomplete.
pub fn open(program: &str, path: &Path) -> Result<Trace> {
    let trace = Trace::open(path)?;
    warn(program, path, trace.problems());
    Ok(trace)
}

/// Makes the statistics of a trace. Warns on stderr about what they do not include.
///
/// # Errors
///
/// The same as for [`open`].
pub fn load_statistics(program: &str, path: &Path) -> Result<Snapshot> {
    let mut trace = Trace::open(path)?;
    let (snapshot, lines) = statistics(&mut trace);
    warn(program, path, &lines);
    Ok(snapshot)
}

/// Prints warnings about a file.
fn warn(program: &str, path: &Path, lines: &[String]) {
    for line in lines {
        status::warn(program, &format!("{}: {line}", path.display()));
    }
}
