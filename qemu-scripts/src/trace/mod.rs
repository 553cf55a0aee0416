//! Traces as text, and their statistics.

mod line;
mod origins;
mod script;
mod timeline;

use std::io::Read;
use std::path::Path;

use anyhow::Result;

use crate::stats::Snapshot;
use crate::stats::trace::{MAGIC, Trace, statistics, statistics_while};
use crate::status;

pub use line::{Access, Caller, Line, Names, describe};
pub(crate) use origins::origins;
pub use script::print;
pub use timeline::{PERIODS, PortValues, Timeline, WindowSpan};

/// Returns true if a regular file starts with the magic number of a trace.
///
/// Other files are not opened: what is read from a pipe is lost to the next reader.
pub fn is_trace(path: &Path) -> bool {
    let mut start = [0; 4];
    let file = path.metadata().is_ok_and(|file| file.is_file()).then(|| std::fs::File::open(path));
    let read = |mut file: std::fs::File| file.read_exact(&mut start).is_ok();
    file.and_then(Result::ok).is_some_and(read) && start == MAGIC
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

/// Makes the statistics and the timeline of a trace. Warns like [`load_statistics`].
///
/// # Errors
///
/// The same as for [`open`].
pub fn load_timeline(program: &str, path: &Path) -> Result<(Snapshot, Timeline)> {
    let mut trace = Trace::open(path)?;
    let mut timeline = Timeline::default();
    let (snapshot, lines) =
        statistics_while(&mut trace, |event, stream| timeline.add(event, stream));
    warn(program, path, &lines);
    Ok((snapshot, timeline))
}

/// Prints warnings about a file.
fn warn(program: &str, path: &Path, lines: &[String]) {
    for line in lines {
        status::warn(program, &format!("{}: {line}", path.display()));
    }
}
