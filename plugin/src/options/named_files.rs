//! Detects options that name the same file, or a file in the shared directory.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pvio_guest::abi::DUMPS_MAX;

use super::OptionError;
use crate::devices::{DeviceRequest, FILTER, Kind, OBSERVE, REPLAY, SCRIPT};
use crate::files::{self, Identity};

/// The files that options have named so far.
#[derive(Default)]
pub(super) struct NamedFiles {
    files: Vec<NamedFile>,
    /// The directory that the guest shares, without links.
    shared: Option<PathBuf>,
}

/// A file and the option that names it.
struct NamedFile {
    identity: Identity,
    /// The option, for messages.
    option: String,
    is_written: bool,
    /// The guest's numbered dumps are written next to it.
    has_numbered_dumps: bool,
    /// It is named through an open descriptor, such as `/dev/stdout`.
    is_descriptor: bool,
}

impl NamedFile {
    /// Returns true if both options use one file and at least one writes it. Several options may write to
    /// the same open descriptor.
    fn conflicts_with(&self, other: &NamedFile) -> bool {
        let any_writes = self.is_written || other.is_written;
        let both_write = self.is_written && other.is_written;
        let share_descriptor = both_write && self.is_descriptor && other.is_descriptor;
        any_writes && !share_descriptor && self.identity.is_same(&other.identity)
    }

    /// Returns true if a numbered dump of the other would replace this file.
    fn is_numbered_dump_of(&self, other: &NamedFile) -> bool {
        other.has_numbered_dumps && is_numbered_dump(&self.identity.path, &other.identity.path)
    }
}

impl NamedFiles {
    /// Adds a file that an option reads.
    pub fn add_input(&mut self, key: &str, path: &str) -> Result<(), OptionError> {
        self.add(format!("option {key:?}"), path, false, false)
    }

    /// Adds a file that an option writes.
    pub fn add_output(&mut self, key: &str, path: &str) -> Result<(), OptionError> {
        self.add(format!("option {key:?}"), path, true, false)
    }

    /// Adds the file of a dump. Numbered dumps are written next to it.
    pub fn add_dumps(&mut self, key: &str, path: &str) -> Result<(), OptionError> {
        self.add(format!("option {key:?}"), path, true, true)
    }

    /// Adds the path of a socket. Whether it can be made shows when it is.
    pub fn add_socket(&mut self, key: &str, path: &str) -> Result<(), OptionError> {
        self.add_allowed(format!("option {key:?}"), path, true, false)
    }

    /// Adds the directory that the guest shares.
    pub fn add_shared_directory(&mut self, path: &str) {
        self.shared = files::real_path(Path::new(path)).ok();
    }

    /// Rejects an output in the shared directory. All options have been added.
    pub fn check_shared_directory(&self) -> Result<(), OptionError> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let in_it = |file: &&NamedFile| file.is_written && file.identity.path.starts_with(shared);
        self.files.iter().find(in_it).map_or(Ok(()), |file| {
            let (path, option) = (file.identity.path.clone(), file.option.clone());
            Err(OptionError::InSharedDirectory(path, option))
        })
    }

    /// Adds the files of a device.
    pub fn add_device(&mut self, device: &DeviceRequest<Kind>) -> Result<(), OptionError> {
        for (key, path) in &device.settings {
            if matches!(&**key, "in" | "out" | "file") {
                let setting = format!("{key:?} of {:?}", device.kind_and_ports);
                let readers = [SCRIPT.name, OBSERVE.name, FILTER.name, REPLAY.name];
                let is_read = key == "in" || readers.contains(&device.kind.name());
                self.add(setting, path, !is_read, false)?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        option: String,
        path: &str,
        is_written: bool,
        has_numbered_dumps: bool,
    ) -> Result<(), OptionError> {
        let file = Path::new(path);
        if let Some(why) = files::refusal(file, is_written) {
            return Err(OptionError::File { option, path: path.to_owned(), why });
        }
        self.add_allowed(option, path, is_written, has_numbered_dumps)
    }

    fn add_allowed(
        &mut self,
        option: String,
        path: &str,
        is_written: bool,
        has_numbered_dumps: bool,
    ) -> Result<(), OptionError> {
        let file = Path::new(path);
        let Some(identity) = Identity::of(file) else { return Ok(()) };
        let is_descriptor = files::is_descriptor(file);
        let named = NamedFile { identity, option, is_written, has_numbered_dumps, is_descriptor };
        let dumps_of = |named: &NamedFile| format!("dumps of {}", named.option);
        for other in &self.files {
            let (first, second) = if named.conflicts_with(other) {
                (other.option.clone(), named.option.clone())
            } else if named.is_numbered_dump_of(other) {
                (dumps_of(other), named.option.clone())
            } else if other.is_numbered_dump_of(&named) {
                (other.option.clone(), dumps_of(&named))
            } else {
                continue;
            };
            return Err(OptionError::SameFile(named.identity.path, first, second));
        }
        self.files.push(named);
        Ok(())
    }
}

/// Returns true if `path` is `dump.1`, `dump.2` and so on, up to the ABI's limit.
fn is_numbered_dump(path: &Path, dump: &Path) -> bool {
    let (path, dump) = (path.as_os_str().as_bytes(), dump.as_os_str().as_bytes());
    let number = path.strip_prefix(dump).and_then(|rest| rest.strip_prefix(b"."));
    number.is_some_and(|number| (1..=DUMPS_MAX).any(|n| n.to_string().as_bytes() == number))
}
