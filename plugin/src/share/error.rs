//! The reasons why a shared directory or a file in it cannot be used.

use rustix::io::Errno;

/// The reason why a directory cannot be shared. The text ends with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ShareOpenError {
    /// It is not a directory, or cannot be opened.
    #[error("the directory cannot be opened: {0}; name a directory that you can read")]
    Directory(Errno),
    /// The kernel cannot confine names to the directory.
    #[error(
        "this host's kernel cannot confine names to a directory (openat2: {0}); use Linux 5.6 or newer, without a filter \
         of system calls"
    )]
    Resolve(Errno),
}

/// The reason why a call for a file fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareError {
    /// There is no such file or directory.
    Missing,
    /// The name leaves the directory, or is not that of a regular file.
    Name,
    /// A file has the name already.
    Exists,
    /// The file, or all together, would be too large.
    Limit,
    /// The unfinished file is gone.
    Stale,
    /// The host cannot read or write.
    Failed,
}

impl From<Errno> for ShareError {
    fn from(error: Errno) -> ShareError {
        match error {
            Errno::NOENT | Errno::NOTDIR => ShareError::Missing,
            // A link, or a way out of the directory.
            Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG => ShareError::Name,
            Errno::EXIST => ShareError::Exists,
            _ => ShareError::Failed,
        }
    }
}

impl From<std::io::Error> for ShareError {
    fn from(_: std::io::Error) -> ShareError {
        ShareError::Failed
    }
}
