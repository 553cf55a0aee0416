//! What several options have in common that name files.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Whether a path means an open file of this process, which may be a regular file whose other
/// contents must stay: `/dev/stdout`, `/dev/fd/3`.
pub(crate) fn is_descriptor(path: &Path) -> bool {
    ["/dev/stdout", "/dev/stderr"].contains(&&*path.to_string_lossy())
        || path.starts_with("/dev/fd")
        || path.starts_with("/proc")
}

/// A file that is made, or made empty, with the first that is written to it, or when it is said to be time: when QEMU does not start
/// after all, what was there is there still. What is open already is added to.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: File,
    /// Old contents are still to be taken away.
    is_old: bool,
}

impl NewFile {
    /// Opens the file, so that it is known that it can be written to.
    pub fn open(path: &Path) -> io::Result<NewFile> {
        let mut options = OpenOptions::new();
        if is_descriptor(path) {
            return Ok(NewFile { file: options.append(true).open(path)?, is_old: false });
        }
        let file = options.write(true).create(true).truncate(false).open(path)?;
        let is_old = file.metadata()?.is_file();
        Ok(NewFile { file, is_old })
    }

    /// Takes old contents away now.
    pub fn take_old_away(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_old) {
            self.file.set_len(0)?;
        }
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take_old_away()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.take_old_away()?;
        self.file.flush()
    }
}

/// The file that a path leads to, to tell whether two do to the same; `None` for what several may share:
/// devices, pipes, what is open already.
pub(crate) fn identity(path: &Path) -> Option<PathBuf> {
    if is_descriptor(path) || path.metadata().is_ok_and(|there| !there.is_file()) {
        return None;
    }
    let of_new_file = || {
        // It is not there yet, but its directory is.
        let path = std::path::absolute(path).ok()?;
        match path.parent().and_then(|parent| parent.canonicalize().ok()).zip(path.file_name()) {
            Some((parent, name)) => Some(parent.join(name)),
            None => Some(path),
        }
    };
    path.canonicalize().ok().or_else(of_new_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_goes_with_the_first_that_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "old and long").unwrap();
        let mut file = NewFile::open(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old and long");
        file.write_all(b"new").unwrap();
        file.write_all(b"er").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"newer");
        NewFile::open(&path).unwrap().flush().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }
}
