//! The option `config=FILE`: a TOML file with the other options.
//!
//! The file's options become arguments as on QEMU's command line, so all that follows is the same for both.

mod convert;
mod merge;

use std::io;
use std::ops::Range;
use std::path::Path;

use pvio_stats::nearest::suggestion_or;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::argument::{Argument, Place};
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
    #[error("{place}: {text}")]
    Mistake {
        /// The place.
        place: Place,
        /// The fault and the remedy.
        text: String,
    },
}

/// Reads the options of a file.
///
/// # Errors
///
/// The file cannot be read, is not TOML, or has a key or a value that no option has.
pub(super) fn read(path: &str) -> Result<Vec<Argument>, ConfigError> {
    let text = read_text(Path::new(path), "a configuration").map_err(ConfigError::Unreadable)?;
    Config { path, text: &text }.arguments()
}

/// A file's text and its name.
pub(super) struct Config<'a> {
    pub(super) path: &'a str,
    pub(super) text: &'a str,
}

impl Config<'_> {
    pub(super) fn arguments(&self) -> Result<Vec<Argument>, ConfigError> {
        let table = DeTable::parse(self.text).map_err(|error| {
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            self.mistake(error.span().unwrap_or(0..0), message)
        })?;
        let mut arguments = Vec::new();
        for (key, value) in in_order(table.get_ref()) {
            let name = &**key.get_ref();
            if !keys().any(|key| key == name) {
                let remedy = suggestion_or(name, keys(), || {
                    format!("; the keys are {}", keys().collect::<Vec<_>>().join(", "))
                });
                return Err(self.mistake(key.span(), format!("unknown key {name:?}{remedy}")));
            }
            for (value, span) in self.values(name, value)? {
                let place = Some(self.place(&span));
                arguments.push(Argument { key: name.to_owned(), value, place });
            }
        }
        Ok(arguments)
    }

    fn mistake(&self, span: Range<usize>, text: String) -> ConfigError {
        ConfigError::Mistake { place: self.place(&span), text }
    }

    fn place(&self, span: &Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Place {
            file: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// A path of the file as one of QEMU's: relative paths are from the file's directory.
    fn resolve(&self, path: &str) -> String {
        let directory = Path::new(self.path).parent().unwrap_or(Path::new(""));
        // Nothing is joined to an empty directory, so paths stay as the user wrote them.
        directory.join(path).to_string_lossy().into_owned()
    }
}

type Key<'a> = Spanned<std::borrow::Cow<'a, str>>;

/// A table's entries in the order of the file.
fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> impl Iterator<Item = (&'a Key<'i>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries.into_iter()
}

#[cfg(test)]
mod tests;
