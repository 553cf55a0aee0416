//! Puts pvio's guest support (`guest-shim/linux`) into the source of a Linux kernel.
//!
//! Own files are copied. The kernel's files get single lines, at places that are found by one line of theirs. All edits
//! are made in memory first, so a tree that differs too much stays as it is.

mod edit;
mod edits;

use std::path::Path;

use anyhow::{Context, Result, ensure};

use edits::EDITS;

/// pvio's own files, by their paths in the kernel's tree.
const FILES: [(&str, &str); 8] = [
    ("arch/x86/Kconfig.pvio", include_str!("../../../guest-shim/linux/arch/x86/Kconfig.pvio")),
    ("arch/x86/boot/pvio.c", include_str!("../../../guest-shim/linux/arch/x86/boot/pvio.c")),
    (
        "arch/x86/boot/compressed/pvio.c",
        include_str!("../../../guest-shim/linux/arch/x86/boot/compressed/pvio.c"),
    ),
    (
        "arch/x86/include/asm/pvio.h",
        include_str!("../../../guest-shim/linux/arch/x86/include/asm/pvio.h"),
    ),
    (
        "arch/x86/include/asm/pvio_strings.h",
        include_str!("../../../guest-shim/linux/arch/x86/include/asm/pvio_strings.h"),
    ),
    (
        "arch/x86/include/asm/shared/pvio.h",
        include_str!("../../../guest-shim/linux/arch/x86/include/asm/shared/pvio.h"),
    ),
    (
        "arch/x86/include/asm/shared/pvio_abi.h",
        include_str!("../../../guest-shim/linux/arch/x86/include/asm/shared/pvio_abi.h"),
    ),
    ("arch/x86/kernel/pvio.c", include_str!("../../../guest-shim/linux/arch/x86/kernel/pvio.c")),
];

/// A tree that has pvio's guest support.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patched {
    /// The kernel's version, such as `6.12.48`.
    pub version: String,
    /// Number of own files that were new or had changed.
    pub files: usize,
    /// Number of the kernel's files that were edited.
    pub edited: usize,
}

/// Puts pvio's files into a tree and edits the kernel's.
///
/// A tree that has been patched before stays as it is, except for own files that have changed since.
///
/// # Errors
///
/// Fails if the directory is not a Linux source tree, or if a line that an edit looks for is not there exactly once. The
/// tree is then unchanged. Fails if a file cannot be written.
pub fn patch(tree: &Path) -> Result<Patched> {
    let version = version(tree)?;
    let mut edited: Vec<(&str, String)> = Vec::new();
    for edit in &EDITS {
        let known = edited.iter().position(|(file, _)| *file == edit.file);
        let text = match known {
            Some(index) => edited[index].1.clone(),
            None => read(tree, edit.file)?,
        };
        let text = edit.apply(&text).with_context(|| format!("{} (Linux {version})", edit.file))?;
        match known {
            Some(index) => edited[index].1 = text,
            None => edited.push((edit.file, text)),
        }
    }
    let edited: usize = write_all(tree, edited.iter().map(|(file, text)| (*file, &**text)))?;
    let files = write_all(tree, FILES)?;
    Ok(Patched { version, files, edited })
}

/// Returns the version that a tree's Makefile names.
fn version(tree: &Path) -> Result<String> {
    let makefile = read(tree, "Makefile")?;
    let variable = |name: &str| {
        let mut values = makefile.lines().filter_map(|line| {
            let (left, right) = line.split_once('=')?;
            (left.trim_end() == name).then(|| right.trim())
        });
        values.next().filter(|value| !value.is_empty())
    };
    let numbers = ["VERSION", "PATCHLEVEL", "SUBLEVEL"].map(variable);
    let numbers: Vec<&str> = numbers.into_iter().flatten().collect();
    ensure!(numbers.len() == 3, "{} is not the source of a Linux kernel", tree.display());
    Ok(numbers.join("."))
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
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        written += 1;
    }
    Ok(written)
}

#[cfg(test)]
mod tests;
