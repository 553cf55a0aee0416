//! TOML files that people write: places of mistakes, and the mistakes that every such file may have.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::nearest::suggestion_or;
use crate::text_table::printable;

/// A key with its place.
pub type Key<'i> = Spanned<Cow<'i, str>>;

/// A value with its place.
pub type Value<'i> = Spanned<DeValue<'i>>;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {text}")]
pub struct Mistake {
    /// Where it is.
    pub place: Place,
    /// The fault and the remedy.
    pub text: String,
}

/// A file's name in messages, and its text.
#[derive(Clone, Copy, Debug)]
pub struct TomlFile<'a> {
    /// The name.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
}

impl<'a> TomlFile<'a> {
    /// Parses the text.
    ///
    /// # Errors
    ///
    /// The text is not TOML.
    pub fn parse(&self) -> Result<Spanned<DeTable<'a>>, Mistake> {
        DeTable::parse(self.text).map_err(|error| {
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            self.mistake(error.span().unwrap_or(0..0), message)
        })
    }

    /// The place at which a span begins.
    pub fn place(&self, span: &Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Place {
            file: self.name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// Makes a mistake at a place. The text may quote names and values as the file has them.
    pub fn mistake(&self, span: Range<usize>, text: impl AsRef<str>) -> Mistake {
        Mistake { place: self.place(&span), text: printable(text.as_ref()) }
    }

    /// Makes the mistake of a value that has another type. `expected` follows "write".
    pub fn wrong_type(&self, what: &str, value: &Value<'_>, expected: &str) -> Mistake {
        let kind = match value.get_ref() {
            DeValue::Array(_) => "an array",
            DeValue::Integer(_) => "an integer",
            other => &format!("a {}", other.type_str()),
        };
        self.mistake(value.span(), format!("{what} is {kind}; write {expected}"))
    }

    /// Makes the mistake of a key that a table does not have.
    pub fn unknown_key(&self, table: &str, key: &Key<'_>, known: &[&str]) -> Mistake {
        let name = &**key.get_ref();
        let remedy = suggestion_or(name, known.iter().copied(), || {
            format!("; its keys are {}", known.join(", "))
        });
        self.mistake(key.span(), format!("{table} has no key {name:?}{remedy}"))
    }

    /// Returns a string's text.
    ///
    /// # Errors
    ///
    /// The value is not a string.
    pub fn string<'v>(&self, what: &str, value: &'v Value<'_>) -> Result<&'v str, Mistake> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong_type(what, value, "a string")),
        }
    }
}

/// A table's entries in the order of the file.
pub fn in_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> impl Iterator<Item = (&'t Key<'i>, &'t Value<'i>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_mistake_quotes_are_escaped() {
        let file = TomlFile { name: "a.toml", text: "[\"\\u001b[2J\"]\n" };
        let table = file.parse().unwrap();
        let (key, _) = in_order(table.get_ref()).next().unwrap();
        let mistake = file.mistake(key.span(), format!("{} has no title", key.get_ref()));
        assert_eq!(mistake.to_string(), "a.toml:1:2: \\u{1b}[2J has no title");
    }

    #[test]
    fn places_are_counted_in_lines_and_characters() {
        let file = TomlFile { name: "a.toml", text: "first = 1 # ä\nsecond = ä\n" };
        let error = file.parse().unwrap_err().to_string();
        assert!(error.starts_with("a.toml:2:10: "), "{error}");
        let file = TomlFile { name: "a.toml", text: "\"ä\" = [2]\nb = \"x\"\n" };
        let table = file.parse().unwrap();
        let [(key, array), (_, text)] = in_order(table.get_ref()).collect::<Vec<_>>()[..] else {
            panic!("two entries");
        };
        assert_eq!(
            file.wrong_type("a", array, "a string").to_string(),
            "a.toml:1:7: a is an array; write a string"
        );
        assert_eq!(file.string("b", text).unwrap(), "x");
        assert_eq!(
            file.unknown_key("a file", key, &["b", "c"]).to_string(),
            "a.toml:1:1: a file has no key \"ä\"; its keys are b, c"
        );
    }
}
