//! The plugin's options, `key=value`, as QEMU hands them over.

use std::path::{Path, PathBuf};

use crate::stats::{Destination, DestinationError};
use crate::symbols::{Symbols, SymbolsError};

/// An option that cannot be accepted: which, what is wrong with it, what would be right.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    /// There is no option of that name.
    #[error("unknown option {0:?}; there are stats=FILE, summary=on|off|FILE and symbols=FILE")]
    Unknown(String),
    /// It needs a value.
    #[error("option {0:?} needs a value; write {0}=FILE")]
    Empty(String),
    /// It may stand once only.
    #[error("option {0:?} is given twice; give it once")]
    Twice(&'static str),
    /// The file cannot be written.
    #[error("option {option:?}: {source}")]
    Destination {
        /// The option as it was given.
        option: String,
        /// What is wrong.
        source: DestinationError,
    },
    /// The symbols cannot be read.
    #[error("option \"symbols\": {0}")]
    Symbols(#[from] SymbolsError),
}

/// Where the tables for a person go.
#[derive(Debug, Default)]
pub enum Summary {
    /// To stderr.
    #[default]
    Stderr,
    /// Nowhere.
    Off,
    /// To a file.
    File(Destination),
}

/// What the user asked for.
#[derive(Debug, Default)]
pub struct Options {
    /// Where the JSON dump goes.
    pub stats: Option<Destination>,
    /// Where the tables go.
    pub summary: Summary,
    /// Names for sites.
    pub symbols: Symbols,
}

impl Options {
    /// Takes the options in, and opens what they name.
    pub fn parse(arguments: &[String]) -> Result<Options, OptionError> {
        let (mut stats, mut summary, mut symbols) = (None, None, Vec::new());
        for argument in arguments {
            let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
            match key {
                "stats" => once("stats", &mut stats, key, value)?,
                "summary" => once("summary", &mut summary, key, value)?,
                "symbols" if value.is_empty() => return Err(OptionError::Empty(key.into())),
                "symbols" => symbols.push(PathBuf::from(value)),
                _ => return Err(OptionError::Unknown(key.into())),
            }
        }
        Ok(Options {
            stats: stats.map(|path| open("stats", path)).transpose()?,
            summary: match summary {
                None | Some("on") => Summary::Stderr,
                Some("off") => Summary::Off,
                Some(path) => Summary::File(open("summary", path)?),
            },
            symbols: Symbols::load(&symbols)?,
        })
    }
}

fn once<'a>(
    name: &'static str,
    place: &mut Option<&'a str>,
    key: &str,
    value: &'a str,
) -> Result<(), OptionError> {
    if value.is_empty() {
        return Err(OptionError::Empty(key.into()));
    }
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(OptionError::Twice(name)),
    }
}

fn open(key: &str, path: &str) -> Result<Destination, OptionError> {
    Destination::open(Path::new(path))
        .map_err(|source| OptionError::Destination { option: format!("{key}={path}"), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.into()).collect();
        Options::parse(&arguments).unwrap_err().to_string()
    }

    #[test]
    fn nothing_given_means_tables_on_stderr() {
        let options = Options::parse(&[]).unwrap();
        assert!(options.stats.is_none());
        assert!(matches!(options.summary, Summary::Stderr));
        let options = Options::parse(&["summary=off".into()]).unwrap();
        assert!(matches!(options.summary, Summary::Off));
    }

    #[test]
    fn each_error_names_the_option_and_the_remedy() {
        insta::assert_snapshot!(
            [
                error(&["stat=x"]),
                error(&["stats="]),
                error(&["stats"]),
                error(&["summary=off", "summary=on"]),
                error(&["stats=/nonexistent/directory/x.json"]),
                error(&["summary=/"]),
                error(&["symbols=/nonexistent/vmlinux"]),
                error(&["symbols=/dev/null"]),
            ]
            .join("\n")
        );
    }
}
