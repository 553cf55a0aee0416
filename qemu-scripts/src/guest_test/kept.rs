//! Keeps the files of a guest's run: its statistics, its log and its output.

use std::path::Path;

use anyhow::Result;

use super::LogLine;
use crate::dumps;
use crate::machine::Ended;

/// Writes the files to a directory that exists.
///
/// # Errors
///
/// Fails if a file cannot be written.
pub(super) fn keep(
    directory: &Path,
    ended: &Ended,
    log: &[LogLine],
    console: Option<&Path>,
) -> Result<()> {
    let log: String = log.iter().map(|line| format!("{}\n", line.0)).collect();
    let mut files = vec![
        ("log.txt", log.into_bytes()),
        ("serial.txt", ended.stdout.clone().into()),
        ("qemu.txt", ended.stderr.clone().into()),
    ];
    if let Some(console) = console {
        files.push(("console.txt", std::fs::read(console).unwrap_or_default()));
    }
    if let Some(stats) = &ended.stats {
        files.push(("stats.json", serde_json::to_vec_pretty(stats)?));
    }
    for (name, contents) in files {
        dumps::write(&directory.join(name), &contents, &[])?;
    }
    Ok(())
}
