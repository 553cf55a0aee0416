//! A guest that is to be run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::boot_kind::Found;
use super::selection::Entry;
use super::settings::{GuestFiles, Settings};
use super::unittests::Unittest;
use super::{BootKind, boot, outputs, unittest_run};

/// A guest to boot.
#[derive(Clone, Debug)]
pub struct Guest<'a> {
    path: PathBuf,
    name: String,
    label: String,
    found: Found,
    pub(super) settings: Settings,
    /// The test of kvm-unit-tests that it is.
    pub(super) unittest: Option<&'a Unittest>,
}

impl<'a> Guest<'a> {
    /// Looks at a guest's file, and reads its settings.
    ///
    /// # Errors
    ///
    /// Fails if the file is empty or cannot be read, or if `guest.toml` beside it is wrong.
    pub(super) fn open(
        entry: &Entry<'a>,
        options: &Settings,
        files: &GuestFiles,
    ) -> Result<Guest<'a>> {
        let path = entry.path();
        let unittest = entry.unittest();
        let (found, settings) = match unittest {
            // A test whose file is missing is skipped.
            Some(test) if !path.is_file() => (
                Found::Unbootable("there is no such file".into()),
                options.over(&unittest_run::settings(test)),
            ),
            Some(test) => (Found::of(path)?, options.over(&unittest_run::settings(test))),
            None => (Found::of(path)?, files.settings(path, options)?),
        };
        Ok(Guest {
            path: path.to_owned(),
            name: entry.name(),
            label: outputs::label(&entry.number(), &entry.file_name()),
            found: settings.boot.map_or(found, Found::Bootable),
            settings,
            unittest,
        })
    }

    /// Returns the guest's name, and which of several runs it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the guest's number and file name, safe within a file name: `1-boot.bin`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns how QEMU boots it; `None` if QEMU cannot.
    pub(super) fn kind(&self) -> Option<BootKind> {
        match self.found {
            Found::Bootable(kind) => Some(kind),
            Found::Unbootable(_) => None,
        }
    }

    /// Returns QEMU's arguments that boot it, with or without a command line of the guest's; or else the reason why QEMU cannot.
    ///
    /// # Errors
    ///
    /// Fails if files for the run cannot be made in `directory`.
    pub(super) fn boot(
        &self,
        directory: &Path,
        has_command_line: bool,
    ) -> Result<Result<Vec<OsString>, &str>> {
        match &self.found {
            Found::Bootable(kind) => {
                Ok(Ok(boot::arguments(*kind, &self.path, directory, has_command_line)?))
            }
            Found::Unbootable(why) => Ok(Err(why)),
        }
    }
}
