//! Destinations of dumps: paths that are tested when QEMU starts and written when it ends.
//!
//! Dumps that the guest requests in between go to numbered files beside it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pvio_stats::{output_path, without_path};

use crate::files::{self, OutputFile};

/// The reason why a dump cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// No file can be created in the directory.
    #[error(
        "no file can be created in {directory}: {source}; name a file in a directory that you can write to"
    )]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// The file, pipe or device cannot be opened.
    #[error("{path} cannot be opened for writing: {source}; name another file")]
    Open {
        /// The path of the option.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// Writing failed.
    #[error("{path} was not written: {source}")]
    Write {
        /// The path of the option.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// QEMU has given up the right to create files.
    #[error(
        "{path}.{number} was not written: QEMU's option {option} prevents creating files while the guest runs"
    )]
    Confined {
        /// The path of the option.
        path: PathBuf,
        /// The dump's number.
        number: usize,
        /// QEMU's option that prevents it.
        option: &'static str,
    },
}

/// The destination of a dump.
#[derive(Debug)]
pub struct Destination {
    /// An absolute path, since `-daemonize` changes the working directory.
    path: PathBuf,
    way: Way,
}

/// The way in which a dump is written.
#[derive(Debug)]
enum Way {
    /// To a temporary file that is renamed, so that no reader sees half a dump.
    Renamed,
    /// To a file that was opened at the start, because this option of QEMU's prevents creating one
    /// later.
    Held(Mutex<OutputFile>, &'static str),
    /// To a device, pipe or descriptor such as `/dev/stdout`, opened at the start.
    Stream(Mutex<OutputFile>),
}

impl Destination {
    /// Tests that `path` can be written to, without changing the file.
    ///
    /// `confined_by` is the option, if any, that makes QEMU give up its right to create files.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Directory`] or [`DestinationError::Open`] if it cannot.
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
        // A link stays; the file that it leads to is replaced.
        let path = output_path(path).map_err(open_error)?;
        if let Way::Renamed = way {
            let directory = directory_of(&path);
            // A missing directory is found first, for a plain message.
            let tried = fs::metadata(directory).and_then(|_| temporary_in(directory));
            tried.map_err(|source| DestinationError::Directory {
                directory: directory.to_owned(),
                source,
            })?;
        }
        Ok(Destination { path, way })
    }

    /// Writes the dump. A file is written whole or not at all.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Write`] if writing fails.
    pub fn write(&self, contents: &[u8]) -> Result<(), DestinationError> {
        let result = match &self.way {
            Way::Renamed => replace(&self.path, contents),
            Way::Held(file, _) | Way::Stream(file) => lock(file).replace(contents),
        };
        result.map_err(|source| DestinationError::Write { path: self.path.clone(), source })
    }

    /// Writes one of several dumps: to `FILE.1`, `FILE.2` and so on; to a stream one after another.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Write`] if writing fails, [`DestinationError::Confined`] if QEMU may not
    /// create the file.
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
    file.as_file_mut().write_all(contents)?;
    // Some file systems report only now that they are full.
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// A temporary file that is deleted when dropped, with the permissions that the umask leaves.
fn temporary_in(directory: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".pvio-")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(directory)
        .map_err(without_path)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_and_without_leftovers() {
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
    fn an_unwritable_path_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing/stats.json");
        let error = Destination::open(&missing, None).unwrap_err().to_string();
        assert!(error.contains("missing: No such file or directory"), "{error}");
    }

    #[test]
    fn numbered_dumps_go_beside_the_file_or_to_the_stream() {
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
    fn a_confined_destination_is_opened_at_once_and_takes_no_numbered_dumps() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stats.json");
        fs::write(&path, "old and long").unwrap();
        let destination = Destination::open(&path, Some("-chroot")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old and long");
        let error = destination.write_numbered(1, b"{}").unwrap_err().to_string();
        assert!(error.ends_with(
            ".1 was not written: QEMU's option -chroot prevents creating files while the guest runs"
        ));
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
