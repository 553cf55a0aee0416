//! Where a script comes from.

use std::io;
use std::path::PathBuf;

use crate::files::read_text;

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

    /// Reads the script.
    ///
    /// # Errors
    ///
    /// As of [`read_text`].
    pub fn read(&self) -> io::Result<String> {
        read_text(&self.absolute, "a script")
    }
}
