//! Plugins that tests build on the crate pvio, as a user would: from a copy outside the workspace.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use pvio_cli::paths;

/// Held while cargo builds. Parallel builds would slow down the QEMUs that other tests time.
static CARGO: Mutex<()> = Mutex::new(());

/// Builds a copy of a crate of the repository, with its source changed. Returns the library.
///
/// `pvio` is the path to pvio in the crate's manifest.
pub fn build_copy(original: &str, pvio: &str, change: impl FnOnce(String) -> String) -> PathBuf {
    // A test that panicked here leaves nothing half done that the next build would use.
    let _alone = CARGO.lock().unwrap_or_else(PoisonError::into_inner);
    let repository = paths::repository();
    let original = repository.join(original);
    let name = original.file_name().unwrap().to_str().unwrap();
    let target = repository.join("target").join(name);
    let copy = target.join("copy");
    std::fs::create_dir_all(copy.join("src")).unwrap();
    let source = std::fs::read_to_string(original.join("src/lib.rs")).unwrap();
    std::fs::write(copy.join("src/lib.rs"), change(source)).unwrap();
    let manifest = std::fs::read_to_string(original.join("Cargo.toml")).unwrap();
    let there = format!("path = {:?}", repository.join("plugin"));
    let changed = manifest.replace(&format!("path = {pvio:?}"), &there);
    assert_ne!(changed, manifest);
    std::fs::write(copy.join("Cargo.toml"), changed).unwrap();
    // The same versions of dependencies, and a separate target directory.
    std::fs::copy(repository.join("Cargo.lock"), copy.join("Cargo.lock")).unwrap();
    let built = Command::new(env!("CARGO"))
        .current_dir(&copy)
        .args(["build", "--offline", "--target-dir"])
        .arg(&target)
        .status()
        .unwrap();
    assert!(built.success());
    target.join(format!("debug/lib{}.so", name.replace('-', "_")))
}
