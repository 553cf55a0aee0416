//! The files that options name, held against each other.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pvio_guest::abi::DUMPS_MAX;

use super::OptionError;
use crate::bus::DeviceRequest;
use crate::files::{self, Identity};

/// The files that options have named up to now.
#[derive(Default)]
pub(super) struct NamedFiles(Vec<Named>);

/// A file, and who names it.
struct Named {
    identity: Identity,
    by: String,
    written: bool,
    /// Dumps that the guest asks for are written beside it.
    dumps: bool,
    /// It is named as what is open already.
    is_descriptor: bool,
}

impl Named {
    /// Whether one of two that name the same file would spoil it for the other. What is open already
    /// several may add to.
    fn is_spoilt_by(&self, other: &Named) -> bool {
        let (any, both) = (self.written || other.written, self.written && other.written);
        let share = both && self.is_descriptor && other.is_descriptor;
        any && !share && self.identity.is_same(&other.identity)
    }

    /// Whether the guest's dumps of another would replace this file.
    fn is_dump_of(&self, other: &Named) -> bool {
        other.dumps && is_dump_beside(&self.identity.path, &other.identity.path)
    }
}

impl NamedFiles {
    /// A file that an option reads.
    pub fn add_input(&mut self, key: &str, path: &str) -> Result<(), OptionError> {
        self.add(format!("option {key:?}"), path, false, false)
    }

    /// A file that an option writes.
    pub fn add_output(&mut self, key: &str, path: &str) -> Result<(), OptionError> {
        self.add(format!("option {key:?}"), path, true, false)
    }

    /// A file that an option writes, beside which dumps are written, too.
    pub fn add_dumps(&mut self, key: &str, path: &str) -> Result<(), OptionError> {
        self.add(format!("option {key:?}"), path, true, true)
    }

    /// The files of a device.
    pub fn add_device(&mut self, device: &DeviceRequest) -> Result<(), OptionError> {
        for (key, path) in &device.settings {
            if matches!(&**key, "in" | "out" | "file") {
                self.add(format!("{key:?} of {:?}", device.place), path, key != "in", false)?;
            }
        }
        Ok(())
    }

    /// The same file must not be named twice where one of the two writes it.
    fn add(
        &mut self,
        by: String,
        path: &str,
        written: bool,
        dumps: bool,
    ) -> Result<(), OptionError> {
        let file = Path::new(path);
        if let Some(why) = files::refusal(file, written) {
            return Err(OptionError::File { by, path: path.to_owned(), why });
        }
        let Some(identity) = Identity::of(file) else { return Ok(()) };
        let is_descriptor = files::is_descriptor(file);
        let named = Named { identity, by, written, dumps, is_descriptor };
        let dumps_of = |named: &Named| format!("dumps of {}", named.by);
        for other in &self.0 {
            let (first, second) = if named.is_spoilt_by(other) {
                (other.by.clone(), named.by.clone())
            } else if named.is_dump_of(other) {
                (dumps_of(other), named.by.clone())
            } else if other.is_dump_of(&named) {
                (other.by.clone(), dumps_of(&named))
            } else {
                continue;
            };
            return Err(OptionError::SameFile(named.identity.path, first, second));
        }
        self.0.push(named);
        Ok(())
    }
}

/// Whether a file is where a dump goes that the guest asks for: `FILE.1` and so on.
fn is_dump_beside(path: &Path, dumps: &Path) -> bool {
    let (path, dumps) = (path.as_os_str().as_bytes(), dumps.as_os_str().as_bytes());
    let number = path.strip_prefix(dumps).and_then(|rest| rest.strip_prefix(b"."));
    number.is_some_and(|number| (1..=DUMPS_MAX).any(|n| n.to_string().as_bytes() == number))
}
