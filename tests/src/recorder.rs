//! The plugin of `tests/recorder`, whose device tells how each element reached it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use once_cell::sync::Lazy;

use crate::own_plugin::build_copy;

/// The library, built when it is first asked for.
static LIBRARY: Lazy<PathBuf> =
    Lazy::new(|| build_copy("tests/recorder", "../../plugin", |source| source));

/// What to give to `-plugin`: the recorder at ports 0xe0 to 0xe3, writing to one file, and the statistics
/// to another.
pub fn recorder_argument(log: &Path, stats: &Path) -> String {
    format!(
        "{},summary=off,device=recorder@0xe0-0xe3:log={},stats={}",
        LIBRARY.display(),
        log.display(),
        stats.display()
    )
}

/// For each element in its log, whether it came with others.
pub fn came_in_strings(log: &Path) -> Result<Vec<bool>> {
    let how = |line: std::io::Result<String>| {
        let line = line?;
        Ok(match line.rsplit_once(' ') {
            Some((_, "string'")) => true,
            Some((_, "alone'")) => false,
            _ => bail!("not a line of the recorder's: {line}"),
        })
    };
    BufReader::new(File::open(log)?).lines().map(how).collect()
}
