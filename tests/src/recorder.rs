//! The plugin of `tests/recorder`, whose device tells how each element reached it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use once_cell::sync::Lazy;
use pvio_scripts::places;

/// The library, built when it is first asked for.
static LIBRARY: Lazy<PathBuf> = Lazy::new(|| {
    let repository = places::repository();
    let target = repository.join("target/recorder");
    let copy = target.join("copy");
    let original = repository.join("tests/recorder");
    std::fs::create_dir_all(copy.join("src")).unwrap();
    std::fs::copy(original.join("src/lib.rs"), copy.join("src/lib.rs")).unwrap();
    let manifest = std::fs::read_to_string(original.join("Cargo.toml")).unwrap();
    let there = format!("path = {:?}", repository.join("plugin"));
    std::fs::write(copy.join("Cargo.toml"), manifest.replace("path = \"../../plugin\"", &there))
        .unwrap();
    // The versions that everything else is tested with.
    std::fs::copy(repository.join("Cargo.lock"), copy.join("Cargo.lock")).unwrap();
    let built = Command::new(env!("CARGO"))
        .current_dir(&copy)
        .args(["build", "--offline", "--target-dir"])
        .arg(&target)
        .status()
        .unwrap();
    assert!(built.success());
    target.join("debug/librecorder.so")
});

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
