//! A file that the guest writes: a temporary file until it is complete.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, linkat, openat, renameat, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::name::{Name, TEMPORARY};
use super::{BLOCK, Budget, ShareError, ShareLimits};

/// The number of the next temporary file of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// An unfinished file. Dropping it deletes it.
#[derive(Debug)]
pub struct Upload {
    name: String,
    tag: u64,
    size: u64,
    limits: ShareLimits,
    parent: OwnedFd,
    /// The name in `parent`; empty once the file has its own.
    temporary: String,
    file: File,
    budget: Arc<Budget>,
    /// The blocks that it has taken from the budget.
    blocks: u64,
}

impl Upload {
    pub(super) fn begin(
        directory: &OwnedFd,
        name: Name<'_>,
        limits: ShareLimits,
        budget: Arc<Budget>,
    ) -> Result<Upload, ShareError> {
        let parent = name.open_parent(directory)?;
        check_target(&parent, name.file_name(), limits.overwrite)?;
        budget.take(1)?;
        let created = create(&parent);
        let (temporary, file) = created.inspect_err(|_| budget.give_back(1))?;
        // Other runs must not know it: the machine may be a snapshot from one.
        let tag = RandomState::new().hash_one(&temporary) | 1;
        let name = name.as_str().to_owned();
        Ok(Upload { name, tag, size: 0, limits, parent, temporary, file, budget, blocks: 1 })
    }

    /// The number by which the guest continues the file; not 0.
    pub fn tag(&self) -> u64 {
        self.tag
    }

    pub(super) fn is(&self, name: &[u8], tag: u64, size: u64) -> bool {
        self.name.as_bytes() == name && self.tag == tag && self.size == size
    }

    /// Appends bytes, all or none.
    ///
    /// # Errors
    ///
    /// [`ShareError::Limit`], or [`ShareError::Failed`] if the host cannot write.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), ShareError> {
        let size = self.size + bytes.len() as u64;
        if size > self.limits.file {
            return Err(ShareError::Limit);
        }
        let blocks = size.div_ceil(BLOCK).max(1);
        self.budget.take(blocks - self.blocks)?;
        self.blocks = blocks;
        // Bytes after a failure are overwritten, or cut off when the file is published.
        self.file.write_all_at(bytes, self.size)?;
        self.size = size;
        Ok(())
    }

    /// Gives the file its name.
    ///
    /// # Errors
    ///
    /// [`ShareError::Exists`] or [`ShareError::Name`] if another file has the name, [`ShareError::Failed`] if the host
    /// cannot write. The file is gone then.
    pub fn publish(mut self) -> Result<(), ShareError> {
        self.file.set_len(self.size)?;
        // Some file systems report only now that they are full.
        self.file.sync_all()?;
        let target = self.name.rsplit('/').next().unwrap_or(&self.name);
        let (parent, temporary) = (&self.parent, &*self.temporary);
        check_target(parent, target, self.limits.overwrite)?;
        match self.limits.overwrite {
            true => renameat(parent, temporary, parent, target)?,
            false => match renameat_with(parent, temporary, parent, target, RenameFlags::NOREPLACE)
            {
                // This file system cannot: a link does not replace a file either.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    linkat(parent, temporary, parent, target, AtFlags::empty())?;
                    unlinkat(parent, temporary, AtFlags::empty())?;
                }
                renamed => renamed?,
            },
        }
        self.temporary.clear();
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.temporary.is_empty() {
            // If that fails, the file keeps its temporary name.
            let _ = unlinkat(&self.parent, &*self.temporary, AtFlags::empty());
            self.budget.give_back(self.blocks);
        }
    }
}

/// Checks that a file may get this name.
fn check_target(parent: &OwnedFd, name: &str, overwrite: bool) -> Result<(), ShareError> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(there) if FileType::from_raw_mode(there.st_mode) != FileType::RegularFile => {
            Err(ShareError::Name)
        }
        Ok(_) if overwrite => Ok(()),
        Ok(_) => Err(ShareError::Exists),
    }
}

/// Creates a temporary file, with the permissions that the umask leaves.
fn create(parent: &OwnedFd) -> Result<(String, File), ShareError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        // Relaxed: the number stands for itself.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{TEMPORARY}{}-{number}", std::process::id());
        match openat(parent, &*name, flags, Mode::from_raw_mode(0o666)) {
            // Left by another process of this number.
            Err(Errno::EXIST) => {}
            created => return Ok((name, File::from(created?))),
        }
    }
}
