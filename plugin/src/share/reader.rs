//! Reading a file of the shared directory.

use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::ShareError;
use super::name::Name;

/// A file that is open for one call.
#[derive(Debug)]
pub struct SharedFile {
    file: File,
    /// Its size when it was opened.
    pub size: u64,
    /// Differs from the tag of another file of this name, and from that of this file after a change; not 0.
    pub tag: u64,
}

impl SharedFile {
    pub(super) fn open(directory: &OwnedFd, name: Name<'_>) -> Result<SharedFile, ShareError> {
        let file = File::from(name.open_file(directory)?);
        let there = file.metadata()?;
        let identity = (there.dev(), there.ino(), there.size());
        let times = [there.mtime(), there.mtime_nsec(), there.ctime(), there.ctime_nsec()];
        // The same in each run: a guest may be restored elsewhere.
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let tag = hasher.hash_one((identity, times)) | 1;
        Ok(SharedFile { file, size: there.size(), tag })
    }

    /// Fills a buffer from an offset on.
    ///
    /// # Errors
    ///
    /// [`ShareError::Stale`] if the file is shorter by now, [`ShareError::Failed`] if it cannot be read.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), ShareError> {
        self.file.read_exact_at(bytes, offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => ShareError::Stale,
            _ => ShareError::Failed,
        })
    }
}
