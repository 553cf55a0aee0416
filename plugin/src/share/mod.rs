//! The directory of the host that the guest shares: files are read in parts, and written whole or not at all.
//!
//! The guest is not trusted. Every name is resolved by the kernel beneath the directory, without links. A file that
//! the guest writes has a temporary name until it is complete.

mod error;
mod name;
mod reader;
mod upload;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pvio_guest::abi::UNFINISHED_FILES_MAX;
use rustix::fs::{Mode, OFlags, open};

pub use error::{ShareError, ShareOpenError};
pub use reader::SharedFile;
pub use upload::Upload;

use name::Name;

/// What the guest may do with the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareLimits {
    /// The largest file that the guest may write, in bytes.
    pub file: u64,
    /// The bytes of all files that it may write in a run. Each file counts as whole blocks, and as one at least.
    pub total: u64,
    /// True if its files may replace others.
    pub overwrite: bool,
}

impl Default for ShareLimits {
    fn default() -> ShareLimits {
        ShareLimits { file: 64 << 20, total: 256 << 20, overwrite: false }
    }
}

/// The size of a block of [`ShareLimits::total`].
const BLOCK: u64 = 4096;

/// A shared directory.
#[derive(Debug)]
pub struct Share {
    directory: OwnedFd,
    limits: ShareLimits,
    budget: Arc<Budget>,
    /// The unfinished files, that of the latest call last. A call takes out the one that it uses.
    uploads: Mutex<Vec<Upload>>,
}

/// The blocks that the guest may still write.
#[derive(Debug)]
struct Budget(AtomicU64);

impl Budget {
    /// Takes blocks, all or none.
    fn take(&self, blocks: u64) -> Result<(), ShareError> {
        let less = |left: u64| left.checked_sub(blocks);
        // Relaxed: the number stands for itself.
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.map(drop).map_err(|_| ShareError::Limit)
    }

    fn give_back(&self, blocks: u64) {
        self.0.fetch_add(blocks, Ordering::Relaxed);
    }
}

impl Share {
    /// Opens the directory.
    ///
    /// # Errors
    ///
    /// It is not a directory, cannot be opened, or the host's kernel cannot resolve names beneath it.
    pub fn open(path: &Path, limits: ShareLimits) -> Result<Share, ShareOpenError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(path, flags, Mode::empty()).map_err(ShareOpenError::Directory)?;
        name::can_resolve(&directory)?;
        let budget = Arc::new(Budget(AtomicU64::new(limits.total / BLOCK)));
        Ok(Share { directory, limits, budget, uploads: Mutex::default() })
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// The name is not that of a regular file in the directory, or the host cannot read it.
    pub fn read(&self, name: &[u8]) -> Result<SharedFile, ShareError> {
        SharedFile::open(&self.directory, Name::parse(name)?)
    }

    /// Begins a file.
    ///
    /// # Errors
    ///
    /// The name cannot be that of a new file, the limit is reached, or the host cannot create a file.
    pub fn begin(&self, name: &[u8]) -> Result<Upload, ShareError> {
        let budget = Arc::clone(&self.budget);
        Upload::begin(&self.directory, Name::parse(name)?, self.limits, budget)
    }

    /// Takes out the unfinished file with this name, tag and size.
    ///
    /// # Errors
    ///
    /// [`ShareError::Stale`] if there is none.
    pub fn take(&self, name: &[u8], tag: u64, size: u64) -> Result<Upload, ShareError> {
        let mut uploads = self.uploads();
        let found = uploads.iter().position(|upload| upload.is(name, tag, size));
        found.map(|index| uploads.remove(index)).ok_or(ShareError::Stale)
    }

    /// Puts back an unfinished file.
    pub fn keep(&self, upload: Upload) {
        let mut uploads = self.uploads();
        let oldest = (uploads.len() >= UNFINISHED_FILES_MAX).then(|| uploads.remove(0));
        uploads.push(upload);
        drop(uploads);
        // Deletes a file: not under the lock.
        drop(oldest);
    }

    /// Deletes all unfinished files: their writers are gone.
    pub fn abandon(&self) {
        let uploads = std::mem::take(&mut *self.uploads());
        drop(uploads);
    }

    fn uploads(&self) -> MutexGuard<'_, Vec<Upload>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
