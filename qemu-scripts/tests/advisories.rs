//! Known faults of dependencies: each package of a lock file has been reviewed (`.ci/deny/reviewed.txt`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    /// Absent for the packages of this repository.
    source: Option<String>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Finds the lock files below a directory, but not those of other projects in `target`.
fn lock_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if name == "Cargo.lock" {
            found.push(entry.path());
        } else if entry.file_type().unwrap().is_dir() && name != "target" && name != ".git" {
            lock_files(&entry.path(), found);
        }
    }
}

#[test]
fn every_locked_package_was_reviewed() {
    let list = std::fs::read_to_string(repository().join(".ci/deny/reviewed.txt")).unwrap();
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let reviewed: BTreeSet<String> = lines.map(str::to_owned).collect();
    let mut locked = BTreeSet::new();
    let mut files = Vec::new();
    lock_files(&repository(), &mut files);
    assert!(files.len() > 3, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let lock: Lock = toml::from_str(&text).unwrap();
        let foreign = lock.package.into_iter().filter(|package| package.source.is_some());
        locked.extend(foreign.map(|package| format!("{} {}", package.name, package.version)));
    }
    let not_reviewed: Vec<_> = locked.difference(&reviewed).collect();
    let not_locked: Vec<_> = reviewed.difference(&locked).collect();
    assert!(
        not_reviewed.is_empty() && not_locked.is_empty(),
        "review {not_reviewed:?}, and remove {not_locked:?}: CONTRIBUTING.md says how"
    );
}
