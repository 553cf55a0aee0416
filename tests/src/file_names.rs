//! What is in a directory.

use std::path::Path;

/// The names of what is in a directory, sorted.
///
/// # Panics
///
/// If the directory cannot be read, or a name is not UTF-8.
pub fn file_names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}
