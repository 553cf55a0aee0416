//! Where a dump goes: a path that is tried when QEMU starts, and written when it ends; dumps before
//! that go beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::is_descriptor;

/// A path that a dump cannot be written to, or could not.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// There is a directory of that name.
    #[error("{0} is a directory; name a file in it")]
    IsDirectory(PathBuf),
    /// The directory that the file would be in cannot be written to.
    #[error(
        "no file can be made in {directory}: {source}; name one in a directory that you may write to"
    )]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file, pipe or device cannot be opened.
    #[error("{path} cannot be opened for writing: {source}; name one that can")]
    Open {
        /// What was named.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Writing failed at the end.
    #[error("{path} was not written: {source}")]
    Write {
        /// What was named.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Where a dump goes.
#[derive(Debug)]
pub enum Destination {
    /// A file, which is written beside and renamed, so that nobody ever sees half of it.
    File {
        /// The absolute path: `-daemonize` changes the directory.
        path: PathBuf,
    },
    /// Something else that was there already, such as a pipe or `/dev/stdout`.
    Stream {
        /// What it is called.
        path: PathBuf,
        /// Open since the start.
        file: Arc<File>,
    },
}

impl Destination {
    /// Makes sure that `path` can be written to, and leaves what is there as it is.
    pub fn open(path: &Path) -> Result<Destination, DestinationError> {
        let open_error = |source| DestinationError::Open { path: path.to_owned(), source };
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => Err(DestinationError::IsDirectory(path.to_owned())),
            Ok(there) if !there.is_file() || is_descriptor(path) => {
                let file = OpenOptions::new().append(true).open(path).map_err(open_error)?;
                Ok(Destination::Stream { path: path.to_owned(), file: Arc::new(file) })
            }
            // Of a link the file that it leads to is replaced, not the link.
            Ok(_) => {
                Destination::in_writable_directory(fs::canonicalize(path).map_err(open_error)?)
            }
            Err(_) => {
                let target = match fs::read_link(path) {
                    Ok(target) => directory_of(path).join(target),
                    Err(_) => path.to_owned(),
                };
                Destination::in_writable_directory(std::path::absolute(target).map_err(open_error)?)
            }
        }
    }

    fn in_writable_directory(path: PathBuf) -> Result<Destination, DestinationError> {
        let directory = directory_of(&path);
        // The directory is looked at first for the sake of a plain message.
        match fs::metadata(directory).and_then(|_| temporary_in(directory)) {
            Ok(_removed_when_dropped) => Ok(Destination::File { path }),
            Err(source) => {
                Err(DestinationError::Directory { directory: directory.to_owned(), source })
            }
        }
    }

    /// Where a dump goes that is one of several: to `FILE.1`, `FILE.2` and so on; a stream takes them
    /// all.
    pub fn numbered(&self, number: usize) -> Destination {
        match self {
            Destination::File { path } => {
                let mut path = path.clone().into_os_string();
                path.push(format!(".{number}"));
                Destination::File { path: path.into() }
            }
            Destination::Stream { path, file } => {
                Destination::Stream { path: path.clone(), file: Arc::clone(file) }
            }
        }
    }

    /// Writes the dump, whole or (to a file) not at all.
    pub fn write(&self, contents: &[u8]) -> Result<(), DestinationError> {
        let (path, result) = match self {
            Destination::File { path } => (path, replace(path, contents)),
            Destination::Stream { path, file } => (path, (&mut &**file).write_all(contents)),
        };
        result.map_err(|source| DestinationError::Write { path: path.clone(), source })
    }
}

fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = temporary_in(directory_of(path))?;
    file.write_all(contents)?;
    // A file system may report only now that it is full.
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// A new file that is gone when it is dropped, with the permissions that the umask leaves.
fn temporary_in(directory: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".pvio-")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(directory)
        // The error's own text names a file that the user has never heard of.
        .map_err(|error| error.kind().into())
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_and_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stats.json");
        let destination = Destination::open(&path).unwrap();
        assert!(!path.exists(), "nothing before the end");
        destination.write(b"{}").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"{}");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        Destination::open(&link).unwrap().write(b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }

    #[test]
    fn a_link_to_a_file_that_is_not_there_yet_stays_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("target", &link).unwrap();
        Destination::open(&link).unwrap().write(b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(directory.path().join("target")).unwrap(), b"new");
    }

    #[test]
    fn what_cannot_be_written_is_told_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing/stats.json");
        let error = Destination::open(&missing).unwrap_err().to_string();
        assert!(error.contains("missing: No such file or directory"), "{error}");
        let error = Destination::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("is a directory"), "{error}");
    }

    #[test]
    fn a_numbered_one_is_beside_and_a_stream_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stats.json");
        Destination::open(&path).unwrap().numbered(12).write(b"{}").unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        assert_eq!(fs::read(directory.path().join("stats.json.12")).unwrap(), b"{}");
        let stream = Destination::open(Path::new("/dev/null")).unwrap().numbered(1);
        assert!(matches!(stream, Destination::Stream { .. }));
    }

    #[test]
    fn a_full_disk_is_reported() {
        let destination = Destination::open(Path::new("/dev/full")).unwrap();
        let error = destination.write(b"{}").unwrap_err().to_string();
        assert!(error.starts_with("/dev/full was not written: No space left"), "{error}");
    }
}
