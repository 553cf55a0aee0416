//! The plugin of `tests/recorder`. Its device logs how each element reached it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use once_cell::sync::Lazy;

use crate::own_plugin::build_copy;

/// The library, built on first use.
static LIBRARY: Lazy<PathBuf> =
    Lazy::new(|| build_copy("tests/recorder", "../../plugin", |source| source));

/// The value of `-plugin` for a recorder at ports 0xe0 to 0xe3.
pub fn recorder_argument(log: &Path, stats: &Path) -> String {
    format!(
        "{},summary=off,device=recorder@0xe0-0xe3:log={},stats={}",
        LIBRARY.display(),
        log.display(),
        stats.display()
    )
}

/// Says for each element in the log whether it came in a string.
pub fn came_in_strings(log: &Path) -> Result<Vec<bool>> {
    let how = |line: std::io::Result<String>| {
        let line = line?;
        Ok(match line.rsplit_once(' ') {
            Some((_, "string'")) => true,
            Some((_, "alone'")) => false,
            _ => bail!("not a line of the recorder: {line}"),
        })
    };
    BufReader::new(File::open(log)?).lines().map(how).collect()
}
