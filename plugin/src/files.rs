//! What several options have in common that name files.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Whether a path means an open file of this process, which may be a regular file whose other
/// contents must stay: `/dev/stdout`, `/dev/fd/3`.
pub(crate) fn is_descriptor(path: &Path) -> bool {
    ["/dev/stdout", "/dev/stderr"].contains(&&*path.to_string_lossy())
        || path.starts_with("/dev/fd")
        || path.starts_with("/proc")
}

/// Makes a file, or makes one empty; what is open already is added to.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    match is_descriptor(path) {
        true => OpenOptions::new().append(true).open(path),
        false => File::create(path),
    }
}

/// The file that a path leads to, to tell whether two do to the same; `None` for what several may share:
/// devices, pipes, what is open already.
pub(crate) fn identity(path: &Path) -> Option<PathBuf> {
    if is_descriptor(path) || path.metadata().is_ok_and(|there| !there.is_file()) {
        return None;
    }
    path.canonicalize().or_else(|_| std::path::absolute(path)).ok()
}
