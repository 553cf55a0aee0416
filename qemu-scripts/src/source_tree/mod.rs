//! Puts pvio's guest support into the source of another project.
//!
//! Own files are copied. The project's files get single lines, at places that are found by one line of theirs. All edits
//! are made in memory first, so a tree that differs too much stays as it is.

/// Reads a file that is added to a project's tree, from the directory `files`.
///
/// Its entries are links into `guest-shim`, so that the package of this crate has the files.
macro_rules! own_file {
    ($project:literal, $path:literal) => {
        ($path, include_str!(concat!("files/", $project, "/", $path)))
    };
}

mod edit;
pub mod linux;
pub mod seabios;

use std::path::Path;

use anyhow::{Context, Result};

use crate::dumps;

use edit::Edit;

/// A file of pvio's for a tree: its path there, and its text.
type OwnFile = (&'static str, &'static str);

/// A tree that has pvio's guest support.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patched {
    /// The project's version, such as `6.12.48`.
    pub version: String,
    /// Number of own files that were new or had changed.
    pub files: usize,
    /// Number of the project's files that were edited.
    pub edited: usize,
}

/// Copies `files` into a tree and makes the edits. `name` is the project's name and version, for messages.
fn patch(tree: &Path, name: &str, edits: &[Edit], files: &[OwnFile]) -> Result<[usize; 2]> {
    let mut edited: Vec<(&str, String)> = Vec::new();
    for edit in edits {
        let known = edited.iter().position(|(file, _)| *file == edit.file);
        let text = match known {
            Some(index) => edited[index].1.clone(),
            None => read(tree, edit.file)?,
        };
        let text = edit.apply(&text).with_context(|| format!("{} ({name})", edit.file))?;
        match known {
            Some(index) => edited[index].1 = text,
            None => edited.push((edit.file, text)),
        }
    }
    let edited: usize = write_all(tree, edited.iter().map(|(file, text)| (*file, &**text)))?;
    let files = write_all(tree, files.iter().copied())?;
    Ok([files, edited])
}

fn read(tree: &Path, file: &str) -> Result<String> {
    let path = tree.join(file);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Writes the files that are new or have changed, and returns their number. Others keep their times, for `make`.
fn write_all<'a>(
    tree: &Path,
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<usize> {
    let mut written = 0;
    for (file, text) in files {
        let path = tree.join(file);
        if std::fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
            continue;
        }
        dumps::write(&path, text.as_bytes(), &[])?;
        written += 1;
    }
    Ok(written)
}
