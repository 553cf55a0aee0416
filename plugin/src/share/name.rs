//! Names of files in a shared directory, and how they are resolved.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use super::{ShareError, ShareOpenError};

/// The beginning of names of temporary files. The guest may not use it.
pub(super) const TEMPORARY: &str = ".pvio-";

/// No link is followed, and nothing outside of the directory is reached.
const CONFINED: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A name that is well-formed: components with `/` between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'n> {
    whole: &'n str,
}

impl<'n> Name<'n> {
    /// Checks a name from the guest.
    pub fn parse(name: &'n [u8]) -> Result<Name<'n>, ShareError> {
        let whole = str::from_utf8(name).map_err(|_| ShareError::Name)?;
        let is_good = |part: &str| {
            !matches!(part, "" | "." | "..")
                && !part.starts_with(TEMPORARY)
                && !part.chars().any(char::is_control)
        };
        match whole.split('/').all(is_good) {
            true => Ok(Name { whole }),
            false => Err(ShareError::Name),
        }
    }

    pub fn as_str(self) -> &'n str {
        self.whole
    }

    /// The last component.
    pub fn file_name(self) -> &'n str {
        self.whole.rsplit('/').next().unwrap_or(self.whole)
    }

    /// Opens the directory that has, or will have, the file.
    pub fn open_parent(self, directory: &OwnedFd) -> Result<OwnedFd, ShareError> {
        let parent = self.whole.rsplit_once('/').map_or(".", |(parent, _)| parent);
        resolve(directory, parent, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Opens the file for reading, if it is a regular file.
    pub fn open_file(self, directory: &OwnedFd) -> Result<OwnedFd, ShareError> {
        // Opening a device may have effects, so look at it first.
        let seen = resolve(directory, self.whole, OFlags::PATH)?;
        check_regular(&seen)?;
        // It may have been replaced since: do not wait for a FIFO.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = resolve(directory, self.whole, flags)?;
        check_regular(&file)?;
        Ok(file)
    }
}

fn check_regular(file: impl AsFd) -> Result<(), ShareError> {
    match FileType::from_raw_mode(fstat(file)?.st_mode) {
        FileType::RegularFile => Ok(()),
        _ => Err(ShareError::Name),
    }
}

fn resolve(directory: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, ShareError> {
    Ok(resolve_raw(directory, path, flags)?)
}

fn resolve_raw(directory: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    // The kernel gives up if a directory is renamed at the same time.
    for _ in 0..8 {
        match openat2(directory, path, flags, Mode::empty(), CONFINED) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Tests that the kernel can resolve names as this module needs it.
pub(super) fn can_resolve(directory: &OwnedFd) -> Result<(), ShareOpenError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    resolve_raw(directory, ".", flags).map(drop).map_err(ShareOpenError::Resolve)
}
