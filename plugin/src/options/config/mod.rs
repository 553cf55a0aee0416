//! The option `config=FILE`: a TOML file with the other options.
//!
//! The file's options become arguments as on QEMU's command line, so all that follows is the same for both.

mod convert;
mod merge;

use std::io;
use std::path::Path;

use pvio_stats::nearest::suggestion_or;
use pvio_stats::toml_file::{Mistake, TomlFile, in_order};

use super::argument::Argument;
use super::help::OPTIONS;
use crate::files::read_text;

pub(super) use merge::merge;

/// The keys of a file: all options but those that are for the command line.
fn keys() -> impl Iterator<Item = &'static str> {
    let names = OPTIONS.iter().map(|(name, ..)| *name);
    names.filter(|name| !["config", "check"].contains(name))
}

/// A configuration file that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read it: {0}; name a TOML file")]
    Unreadable(#[source] io::Error),
    /// A mistake at a place.
    #[error(transparent)]
    Mistake(#[from] Mistake),
}

/// Reads the options of a file.
///
/// # Errors
///
/// The file cannot be read, is not TOML, or has a key or a value that no option has.
pub(super) fn read(path: &str) -> Result<Vec<Argument>, ConfigError> {
    let text = read_text(Path::new(path), "a configuration").map_err(ConfigError::Unreadable)?;
    Config { file: TomlFile { name: path, text: &text } }.arguments()
}

/// A configuration file.
pub(super) struct Config<'a> {
    pub(super) file: TomlFile<'a>,
}

impl Config<'_> {
    pub(super) fn arguments(&self) -> Result<Vec<Argument>, ConfigError> {
        let table = self.file.parse()?;
        let mut arguments = Vec::new();
        for (key, value) in in_order(table.get_ref()) {
            let name = &**key.get_ref();
            if !keys().any(|key| key == name) {
                let remedy = suggestion_or(name, keys(), || {
                    format!("; the keys are {}", keys().collect::<Vec<_>>().join(", "))
                });
                let text = format!("unknown key {name:?}{remedy}");
                return Err(self.file.mistake(key.span(), text).into());
            }
            for (value, span) in self.values(name, value)? {
                let place = Some(self.file.place(&span));
                arguments.push(Argument { key: name.to_owned(), value, place });
            }
        }
        Ok(arguments)
    }

    /// A path of the file as one of QEMU's: relative paths are from the file's directory.
    fn resolve(&self, path: &str) -> String {
        let directory = Path::new(self.file.name).parent().unwrap_or(Path::new(""));
        // Nothing is joined to an empty directory, so paths stay as the user wrote them.
        directory.join(path).to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests;
