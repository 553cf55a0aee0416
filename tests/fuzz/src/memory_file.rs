//! Files that exist in memory alone.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, memfd_create};

/// A regular file in memory, at a path of this process.
pub struct MemoryFile {
    _file: File,
    path: PathBuf,
}

impl MemoryFile {
    /// Creates a file with these contents.
    ///
    /// # Panics
    ///
    /// If the process may not open another file.
    pub fn new(contents: &[u8]) -> MemoryFile {
        let file = memfd_create("fuzzed", MemfdFlags::CLOEXEC).expect("a file in memory");
        let mut file = File::from(file);
        file.write_all(contents).expect("memory takes the contents");
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        MemoryFile { _file: file, path }
    }

    /// The path of the file, as long as it exists.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
