//! Where a dump goes: a path that is tried when QEMU starts, and written when it ends; dumps before
//! that go beside it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::files::{self, OutputFile};

/// A path that a dump cannot be written to, or could not.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
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
    /// QEMU may not make files any more.
    #[error("{path}.{number} was not written: after {option} QEMU makes no new files")]
    Confined {
        /// What was named.
        path: PathBuf,
        /// The dump's number.
        number: usize,
        /// The option of QEMU's that keeps it from that.
        option: &'static str,
    },
}

/// Where a dump goes.
#[derive(Debug)]
pub struct Destination {
    /// The absolute path: `-daemonize` changes the directory.
    path: PathBuf,
    way: Way,
}

/// How a dump gets there.
#[derive(Debug)]
enum Way {
    /// It is written beside and renamed, so that nobody ever sees half of it.
    Renamed,
    /// It is written to a file that is open since the start, since this option of QEMU's keeps it from
    /// making one later.
    Held(Mutex<OutputFile>, &'static str),
    /// It is written to what was there already, such as `/dev/stdout`, and is open since the start.
    Stream(Mutex<OutputFile>),
}

impl Destination {
    /// Makes sure that `path` can be written to, and leaves what is there as it is.
    ///
    /// `confined_by` is the option, if any, by which QEMU gives up its rights to files before the dump.
    pub fn open(
        path: &Path,
        confined_by: Option<&'static str>,
    ) -> Result<Destination, DestinationError> {
        let open_error = |source| DestinationError::Open { path: path.to_owned(), source };
        let held = || OutputFile::open(path).map(Mutex::new).map_err(open_error);
        let way = match (fs::metadata(path), confined_by) {
            (Ok(there), _) if !there.is_file() || files::is_descriptor(path) => {
                return Ok(Destination { path: path.to_owned(), way: Way::Stream(held()?) });
            }
            (_, Some(option)) => Way::Held(held()?, option),
            (_, None) => Way::Renamed,
        };
        // Of a link the file that it leads to is replaced, not the link.
        let path = files::real_path(path).map_err(open_error)?;
        if let Way::Renamed = way {
            let directory = directory_of(&path);
            // The directory is looked at first for the sake of a plain message.
            let tried = fs::metadata(directory).and_then(|_| temporary_in(directory));
            tried.map_err(|source| DestinationError::Directory {
                directory: directory.to_owned(),
                source,
            })?;
        }
        Ok(Destination { path, way })
    }

    /// Writes the dump, whole or (to a file) not at all.
    pub fn write(&self, contents: &[u8]) -> Result<(), DestinationError> {
        let result = match &self.way {
            Way::Renamed => replace(&self.path, contents),
            Way::Held(file, _) | Way::Stream(file) => lock(file).replace(contents),
        };
        result.map_err(|source| DestinationError::Write { path: self.path.clone(), source })
    }

    /// Writes a dump that is one of several: to `FILE.1`, `FILE.2` and so on; a stream takes them all.
    pub fn write_numbered(&self, number: usize, contents: &[u8]) -> Result<(), DestinationError> {
        let path = || self.path.clone();
        match self.way {
            Way::Renamed => {
                let mut path = path().into_os_string();
                path.push(format!(".{number}"));
                Destination { path: path.into(), way: Way::Renamed }.write(contents)
            }
            Way::Held(_, option) => {
                Err(DestinationError::Confined { path: path(), number, option })
            }
            Way::Stream(_) => self.write(contents),
        }
    }
}

fn lock(file: &Mutex<OutputFile>) -> MutexGuard<'_, OutputFile> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
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
        let destination = Destination::open(&path, None).unwrap();
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
        Destination::open(&link, None).unwrap().write(b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }

    #[test]
    fn a_link_to_a_file_that_is_not_there_yet_stays_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("target", &link).unwrap();
        Destination::open(&link, None).unwrap().write(b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(directory.path().join("target")).unwrap(), b"new");
    }

    #[test]
    fn what_cannot_be_written_is_told_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing/stats.json");
        let error = Destination::open(&missing, None).unwrap_err().to_string();
        assert!(error.contains("missing: No such file or directory"), "{error}");
    }

    #[test]
    fn a_numbered_one_is_beside_and_a_stream_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stats.json");
        Destination::open(&path, None).unwrap().write_numbered(12, b"{}").unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        assert_eq!(fs::read(directory.path().join("stats.json.12")).unwrap(), b"{}");
        let stream = Destination::open(Path::new("/dev/null"), None).unwrap();
        stream.write_numbered(1, b"{}").unwrap();
        assert!(!Path::new("/dev/null.1").exists());
    }

    #[test]
    fn a_confined_one_is_opened_at_once_and_has_none_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stats.json");
        fs::write(&path, "old and long").unwrap();
        let destination = Destination::open(&path, Some("-chroot")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old and long");
        let error = destination.write_numbered(1, b"{}").unwrap_err().to_string();
        assert!(error.ends_with(".1 was not written: after -chroot QEMU makes no new files"));
        let moved = directory.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        destination.write(b"{}").unwrap();
        assert_eq!(fs::read(&moved).unwrap(), b"{}");
        assert!(!path.exists());
    }

    #[test]
    fn a_full_disk_is_reported() {
        let destination = Destination::open(Path::new("/dev/full"), None).unwrap();
        let error = destination.write(b"{}").unwrap_err().to_string();
        assert!(error.starts_with("/dev/full was not written: No space left"), "{error}");
    }
}
