//! A guest that is to be run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::boot_kind::Found;
use super::selection::Entry;
use super::settings::{GuestFiles, Settings};
use super::{boot, outputs};

/// A guest to boot.
#[derive(Clone, Debug)]
pub struct Guest {
    path: PathBuf,
    name: String,
    label: String,
    found: Found,
    pub(super) settings: Settings,
}

impl Guest {
    /// Looks at a guest's file, and reads its settings.
    ///
    /// # Errors
    ///
    /// Fails if the file is empty or cannot be read, or if `guest.toml` beside it is wrong.
    pub(super) fn open(entry: &Entry<'_>, options: &Settings, files: &GuestFiles) -> Result<Guest> {
        let path = entry.path;
        let found = Found::of(path)?;
        let settings = files.settings(path, options)?;
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Guest {
            path: path.to_owned(),
            name: entry.name(),
            label: outputs::label(&entry.number(), &file_name),
            found: settings.boot.map_or(found, Found::Bootable),
            settings,
        })
    }

    /// Returns the path from the command line, and which of several runs it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the guest's number and file name, safe within a file name: `1-boot.bin`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns QEMU's arguments that boot it; or else the reason why QEMU cannot.
    ///
    /// # Errors
    ///
    /// Fails if files for the run cannot be made in `directory`.
    pub(super) fn boot(&self, directory: &Path) -> Result<Result<Vec<OsString>, &str>> {
        match &self.found {
            Found::Bootable(kind) => Ok(Ok(boot::arguments(*kind, &self.path, directory)?)),
            Found::Unbootable(why) => Ok(Err(why)),
        }
    }
}
