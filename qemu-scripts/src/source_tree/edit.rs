//! One edit of a file: where it is made, and what it adds.

use anyhow::{Result, bail};

/// A line to look for, without its indentation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line {
    /// Exactly this text.
    Is(&'static str),
    /// A text that begins like this.
    Begins(&'static str),
}

/// The change that an edit makes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// Adds a line before the one that is found, with the same indentation.
    Before(Line, &'static str),
    /// Adds a line after the one that is found, with the same indentation.
    After(Line, &'static str),
    /// Adds a line after the last one that is found.
    AfterLast(Line, &'static str),
    /// In each line, replaces what is between the texts of the first pair by the texts of the second: what is between
    /// them is kept.
    Around([&'static str; 2], [&'static str; 2]),
}

/// An edit of one of the project's files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edit {
    /// The path in the tree.
    pub file: &'static str,
    pub change: Change,
}

/// An edit of `file`.
pub(super) const fn edit(file: &'static str, change: Change) -> Edit {
    Edit { file, change }
}

impl Line {
    fn matches(self, line: &str) -> bool {
        let line = line.trim();
        match self {
            Line::Is(text) => line == text,
            Line::Begins(text) => line.starts_with(text),
        }
    }

    fn in_words(self) -> String {
        match self {
            Line::Is(text) => format!("a line {text:?}"),
            Line::Begins(text) => format!("a line that begins with {text:?}"),
        }
    }
}

impl Edit {
    /// Returns the edited text; the same text if it has been edited before.
    ///
    /// # Errors
    ///
    /// Fails if the line is not there exactly once.
    pub fn apply(&self, text: &str) -> Result<String> {
        let (line, added) = match self.change {
            Change::Around(before, after) => return around(text, before, after),
            Change::Before(line, added)
            | Change::After(line, added)
            | Change::AfterLast(line, added) => (line, added),
        };
        if text.lines().any(|found| found.trim() == added) {
            return Ok(text.to_owned());
        }
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let found = || (0..lines.len()).filter(|&index| line.matches(lines[index]));
        let index = match (self.change, found().count()) {
            (_, 1) | (Change::AfterLast(..), 2..) => found().next_back(),
            _ => None,
        };
        let Some(index) = index else {
            bail!("looked for {} and found {}", line.in_words(), found().count());
        };
        let indent: &str = {
            let line = lines[index];
            &line[..line.len() - line.trim_start().len()]
        };
        let added = format!("{indent}{added}\n");
        let at = if matches!(self.change, Change::Before(..)) { index } else { index + 1 };
        Ok([&lines[..at].concat(), &*added, &lines[at..].concat()].concat())
    }
}

fn around(text: &str, [begin, end]: [&str; 2], [new_begin, new_end]: [&str; 2]) -> Result<String> {
    let replace = |line: &str| {
        let (indent, rest) = line.split_once(begin)?;
        let (kept, rest) = rest.split_once(end)?;
        Some([indent, new_begin, kept, new_end, rest].concat())
    };
    let is_edited = |line: &str| {
        let line = line.trim();
        line.strip_prefix(new_begin).is_some_and(|rest| rest.ends_with(new_end))
    };
    let found = text.lines().any(|line| replace(line).is_some() || is_edited(line));
    if !found {
        bail!("looked for a line with {begin:?} and {end:?} and found none");
    }
    let lines = text.split_inclusive('\n');
    Ok(lines.map(|line| replace(line).unwrap_or_else(|| line.to_owned())).collect())
}
