//! Where a script comes from.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// The largest script, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A script's file, and its limit of operations.
pub(super) struct Source {
    /// The path as the user wrote it.
    path: String,
    /// QEMU changes its directory if it becomes a daemon.
    absolute: PathBuf,
    operations: u64,
}

impl Source {
    pub fn new(path: String, operations: u64) -> Source {
        let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone().into());
        Source { path, absolute, operations }
    }

    /// The path as the user wrote it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The number of operations that a call of the script may execute.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Reads the script, which is at most [`MAX_BYTES`] long.
    ///
    /// # Errors
    ///
    /// It cannot be read, is not a regular file, is too long, or is not UTF-8.
    pub fn read(&self) -> io::Result<String> {
        if !std::fs::metadata(&self.absolute)?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut text = String::new();
        File::open(&self.absolute)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
        match text.len() as u64 > MAX_BYTES {
            true => Err(io::Error::other("it is longer than 1 MiB, the limit of a script")),
            false => Ok(text),
        }
    }
}
