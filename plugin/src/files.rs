//! The files that options name: which ones are allowed, which names mean the same file, and how pvio writes them.
//!
//! All options follow one rule. An input must be a regular file. An output may be a regular file, a
//! new file, a character device (`/dev/null`, a terminal), or an open descriptor of any type
//! (`/dev/stdout`, `/dev/fd/3`). FIFOs, sockets, block devices and directories are rejected, because
//! opening or writing them could block QEMU or do harm. So is `-`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pvio_stats::output_path;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

pub(crate) use crate::qemu::output::Stream;
use crate::qemu::output::shared;

/// The maximum length of a chain of symbolic links, as in Linux (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Returns why an option may not name a path, with the remedy; `None` if it may.
pub(crate) fn refusal(path: &Path, written: bool) -> Option<&'static str> {
    if path.as_os_str() == "-" {
        return Some(match written {
            true => {
                "is not a file name; write /dev/stdout for standard output, or ./- for a file of this name"
            }
            false => {
                "is not a file name, and pvio does not read standard input; write ./- for a file of this name"
            }
        });
    }
    // If the file cannot be examined, opening it gives the better error.
    let kind = path.metadata().ok()?.file_type();
    if kind.is_file() || written && (kind.is_char_device() || !kind.is_dir() && is_descriptor(path))
    {
        return None;
    }
    Some(match (kind.is_fifo(), kind.is_socket(), kind.is_dir(), kind.is_char_device()) {
        (true, ..) if written => "is a FIFO; name a regular file, or /dev/stdout for a pipe",
        (true, ..) => "is a FIFO; name a regular file",
        (_, true, ..) => "is a socket; name a regular file",
        (_, _, true, _) => "is a directory; name a file in it",
        (.., true) => "is a character device; name a regular file",
        _ => "is a block device; name a regular file",
    })
}

/// Returns true if a path names an open descriptor: `/dev/stdout`, `/dev/fd/3`, or a link to one.
///
/// The descriptor may be a regular file, whose contents must stay.
pub(crate) fn is_descriptor(path: &Path) -> bool {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        if ["/dev/stdout", "/dev/stderr"].contains(&&*path.to_string_lossy())
            || path.starts_with("/dev/fd")
            || path.starts_with("/proc")
        {
            return true;
        }
        match link_target(&path) {
            Some(target) => path = target,
            None => return false,
        }
    }
    false
}

/// The target of a symbolic link, one step away.
fn link_target(path: &Path) -> Option<PathBuf> {
    Some(path.parent()?.join(path.read_link().ok()?))
}

/// The path without links, `.` and `..`. The file need not exist.
pub(crate) fn real_path(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..MAX_LINKS {
        if let Ok(path) = path.canonicalize() {
            return Ok(path);
        }
        match link_target(&path) {
            Some(target) => path = target,
            None => break,
        }
    }
    // The file does not exist, but its directory may.
    match path.parent().and_then(|parent| parent.canonicalize().ok()).zip(path.file_name()) {
        Some((parent, name)) => Ok(parent.join(name)),
        None => Ok(path),
    }
}

/// Identifies a regular file, whatever path names it.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The path without links.
    pub path: PathBuf,
    /// Device and inode number, if the file exists.
    inode: Option<(u64, u64)>,
}

impl Identity {
    /// Identifies the file at a path; `None` for a device or pipe, which may have several writers.
    pub fn of(path: &Path) -> Option<Identity> {
        let there = path.metadata().ok();
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            return None;
        }
        let path = real_path(path).ok()?;
        Some(Identity { path, inode: there.map(|there| (there.dev(), there.ino())) })
    }

    /// Returns true if both are the same file.
    pub fn is_same(&self, other: &Identity) -> bool {
        self.path == other.path || self.inode.is_some() && self.inode == other.inode
    }
}

/// The longest text that an option may name, in bytes: 1 MiB.
const MAX_TEXT: u64 = 1 << 20;

/// Reads a text that the user has written, for example a script. `of` is what has the limit, for the error.
///
/// # Errors
///
/// The file cannot be read, is not a regular file, is longer than 1 MiB, or is not UTF-8.
pub(crate) fn read_text(path: &Path, of: &str) -> io::Result<String> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_TEXT + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MAX_TEXT {
        true => Err(io::Error::other(format!("it is longer than 1 MiB, the limit of {of}"))),
        false => Ok(text),
    }
}

/// An output file. Its old contents are truncated on the first write, or by `truncate`, so they
/// survive if QEMU does not start. A file that is new is removed then. Descriptors such as `/dev/stdout` are appended to.
#[derive(Debug)]
pub(crate) enum OutputFile {
    /// A regular file.
    Regular {
        /// The file, locked so that no other QEMU writes to it.
        file: File,
        /// True if the old contents are still there.
        needs_truncation: bool,
        /// The path of a file that did not exist before.
        new: Option<PathBuf>,
    },
    /// A device, pipe or socket.
    Stream(Stream),
}

impl OutputFile {
    /// Opens the file for writing and keeps its contents.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or another QEMU has locked it.
    pub fn open(path: &Path) -> io::Result<OutputFile> {
        let is_regular = path.metadata().map_or(true, |there| there.is_file());
        if !is_regular {
            return Stream::open(path).map(OutputFile::Stream);
        }
        let mut options = OpenOptions::new();
        if is_descriptor(path) {
            let file = match path.to_str() {
                Some("/dev/stdout" | "/dev/fd/1") => shared(io::stdout()),
                Some("/dev/stderr" | "/dev/fd/2") => shared(io::stderr()),
                _ => options.append(true).open(path),
            };
            return Ok(OutputFile::Regular { file: file?, needs_truncation: false, new: None });
        }
        let path = output_path(path)?;
        // A FIFO or a link may have replaced the file since; do not block on it, and do not follow it.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW;
        let options = options.write(true).custom_flags(flags);
        let (file, new) = match options.clone().create_new(true).open(&path) {
            Ok(file) => (file, Some(path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (options.open(&path)?, None)
            }
            Err(error) => return Err(error),
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(io::Error::other("another QEMU with pvio writes to it"));
        }
        Ok(OutputFile::Regular { file, needs_truncation: true, new })
    }

    /// Truncates the old contents now, unless they are truncated already.
    pub fn truncate(&mut self) -> io::Result<()> {
        match self {
            OutputFile::Regular { file, needs_truncation: needs_truncation @ true, .. } => {
                *needs_truncation = false;
                file.set_len(0)
            }
            _ => Ok(()),
        }
    }

    /// Replaces the contents, and syncs a regular file to disk.
    pub fn replace(&mut self, contents: &[u8]) -> io::Result<()> {
        self.write_all(contents)?;
        match self {
            OutputFile::Regular { file, .. } => file.sync_all(),
            OutputFile::Stream(_) => Ok(()),
        }
    }
}

impl Drop for OutputFile {
    /// Removes a new file to which nobody has begun to write.
    fn drop(&mut self) {
        let OutputFile::Regular { file, needs_truncation: true, new: Some(path) } = self else {
            return;
        };
        let identity = |there: std::fs::Metadata| (there.dev(), there.ino(), there.len());
        let own = file.metadata().map(identity);
        // Something else may have its name by now, or somebody may have written to it.
        if path.symlink_metadata().map(identity).ok() == own.ok().filter(|&(.., len)| len == 0) {
            // If it stays, it is an empty file.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.truncate()?;
        match self {
            OutputFile::Regular { file, .. } => file.write(bytes),
            OutputFile::Stream(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.truncate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_write_truncates_old_contents() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "old and long").unwrap();
        let mut file = OutputFile::open(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old and long");
        file.write_all(b"new").unwrap();
        file.write_all(b"er").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"newer");
        drop(file);
        OutputFile::open(&path).unwrap().flush().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_new_file_is_removed_unless_writing_begins() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        drop(OutputFile::open(&path("new")).unwrap());
        assert!(!path("new").exists());
        std::fs::write(path("empty"), "").unwrap();
        drop(OutputFile::open(&path("empty")).unwrap());
        assert!(path("empty").exists());
        OutputFile::open(&path("begun")).unwrap().truncate().unwrap();
        assert!(path("begun").exists());
        let file = OutputFile::open(&path("other")).unwrap();
        std::fs::remove_file(path("other")).unwrap();
        std::fs::write(path("other"), "").unwrap();
        drop(file);
        assert!(path("other").exists());
        let file = OutputFile::open(&path("written")).unwrap();
        std::fs::write(path("written"), "by somebody else").unwrap();
        drop(file);
        assert!(path("written").exists());
    }

    #[test]
    fn a_second_writer_of_a_file_is_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let first = OutputFile::open(&path).unwrap();
        let error = OutputFile::open(&path).unwrap_err().to_string();
        assert_eq!(error, "another QEMU with pvio writes to it");
        drop(first);
        OutputFile::open(&path).unwrap();
    }

    #[test]
    fn hard_and_symbolic_links_identify_the_same_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("file"), "").unwrap();
        std::fs::hard_link(path("file"), path("hard")).unwrap();
        std::os::unix::fs::symlink("file", path("soft")).unwrap();
        std::os::unix::fs::symlink("middle", path("dangling")).unwrap();
        std::os::unix::fs::symlink("missing", path("middle")).unwrap();
        let same = |a, b| Identity::of(&path(a)).unwrap().is_same(&Identity::of(&path(b)).unwrap());
        assert!(same("file", "hard") && same("soft", "hard") && same("dangling", "missing"));
        assert!(!same("file", "missing") && !same("file", "other"));
        assert!(Identity::of(Path::new("/dev/null")).is_none());
    }
}
