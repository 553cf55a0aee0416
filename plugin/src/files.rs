//! Files that options name: which may be named, when two are the same, and how they are written.
//!
//! One rule for all options. What is read must be a regular file. What is written may be a regular file,
//! a new one, a character device (`/dev/null`, a terminal), or whatever is open already and named as
//! such (`/dev/stdout`, `/dev/fd/3`). FIFOs, sockets, block devices and directories are refused, as opening
//! or writing them would stop QEMU, or do harm. So is `-`.

pub(crate) use crate::qemu::output::Stream;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::qemu::output::shared;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How many links may lead to each other, as Linux has it.
const LINKS: usize = 40;

/// Why a path may not be named, if so.
pub(crate) fn refusal(path: &Path, written: bool) -> Option<&'static str> {
    if path.as_os_str() == "-" {
        return Some(match written {
            true => {
                "is not a file's name; write /dev/stdout for standard output, or ./- for that file"
            }
            false => "is not a file's name; standard input is not read; write ./- for that file",
        });
    }
    // What cannot be looked at cannot be opened, which says more.
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

/// Whether a path means an open file of this process, which may be a regular file whose other
/// contents must stay: `/dev/stdout`, `/dev/fd/3`, and links to these.
pub(crate) fn is_descriptor(path: &Path) -> bool {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
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

/// Where a link leads to, in one step.
fn link_target(path: &Path) -> Option<PathBuf> {
    Some(path.parent()?.join(path.read_link().ok()?))
}

/// The path of a file without links, `.` and `..`, also where the file is not there yet.
pub(crate) fn real_path(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..LINKS {
        if let Ok(path) = path.canonicalize() {
            return Ok(path);
        }
        match link_target(&path) {
            Some(target) => path = target,
            None => break,
        }
    }
    // It is not there, but its directory may be.
    match path.parent().and_then(|parent| parent.canonicalize().ok()).zip(path.file_name()) {
        Some((parent, name)) => Ok(parent.join(name)),
        None => Ok(path),
    }
}

/// What tells a regular file from others, whatever it is called.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Its real path.
    pub path: PathBuf,
    /// Device and inode, if it is there already.
    inode: Option<(u64, u64)>,
}

impl Identity {
    /// Of the file at a path; `None` for what several may write to: devices, pipes.
    pub fn of(path: &Path) -> Option<Identity> {
        let there = path.metadata().ok();
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            return None;
        }
        let path = real_path(path).ok()?;
        Some(Identity { path, inode: there.map(|there| (there.dev(), there.ino())) })
    }

    /// Whether both are one file.
    pub fn is_same(&self, other: &Identity) -> bool {
        self.path == other.path || self.inode.is_some() && self.inode == other.inode
    }
}

/// An output file. Old contents are truncated by the first write, or by `truncate`, so that they
/// survive if QEMU does not start. What is open already is appended to.
#[derive(Debug)]
pub(crate) enum OutputFile {
    /// A regular file.
    Regular {
        /// Locked, so that no other process writes to it.
        file: File,
        /// Old contents are still to be taken away.
        needs_truncation: bool,
    },
    /// Anything else.
    Stream(Stream),
}

impl OutputFile {
    /// Opens the file, so that it is known that it can be written to.
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
            return Ok(OutputFile::Regular { file: file?, needs_truncation: false });
        }
        // A FIFO that has taken the file's place since is not waited for.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file =
            options.write(true).create(true).truncate(false).custom_flags(flags).open(path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(io::Error::other("another QEMU with pvio writes to it"));
        }
        Ok(OutputFile::Regular { file, needs_truncation: true })
    }

    /// Takes old contents away now.
    pub fn truncate(&mut self) -> io::Result<()> {
        match self {
            OutputFile::Regular { file, needs_truncation: needs_truncation @ true } => {
                *needs_truncation = false;
                file.set_len(0)
            }
            _ => Ok(()),
        }
    }

    /// Replaces whatever it holds, and has it on the disk.
    pub fn replace(&mut self, contents: &[u8]) -> io::Result<()> {
        self.write_all(contents)?;
        match self {
            OutputFile::Regular { file, .. } => file.sync_all(),
            OutputFile::Stream(_) => Ok(()),
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
    fn what_was_there_goes_with_the_first_that_is_written() {
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
    fn one_file_has_one_writer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let first = OutputFile::open(&path).unwrap();
        let error = OutputFile::open(&path).unwrap_err().to_string();
        assert_eq!(error, "another QEMU with pvio writes to it");
        drop(first);
        OutputFile::open(&path).unwrap();
    }

    #[test]
    fn links_of_both_kinds_lead_to_the_same_file() {
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
