//! Patterns of the guest's output that give a verdict, and the search for them while the guest runs.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use regex::Regex;
use serde::Deserialize;

use super::quote::one_line;

/// Maximum length of a line, in bytes. A longer line is searched in parts of this length.
const MAX_LINE: usize = 64 << 10;

/// Time after which an unfinished line, such as a prompt, is searched as it is.
const QUIET: Duration = Duration::from_secs(1);

/// A regular expression, searched in each line.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Regex);

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Pattern, String> {
        if text.is_empty() {
            return Err("it is empty and would match every line; name some text".into());
        }
        let compiled = Regex::new(text);
        compiled.map(Pattern).map_err(|error| {
            // The first lines of the message show the place in the pattern.
            let message = error.to_string();
            let why = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("{why}; patterns are regular expressions: write \\( for a bracket")
        })
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Pattern, String> {
        text.parse().map_err(|why| format!("pattern {text:?}: {why}"))
    }
}

impl Pattern {
    /// Returns true if a text contains a match.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// Returns true if an unfinished line contains a match that no continuation can change.
    fn matches_within(&self, begin: &str) -> bool {
        // `$` and `\b` match at the end of the text, and may not do so later.
        self.0.find_iter(begin).any(|found| found.end() < begin.len())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", one_line(self.0.as_str()))
    }
}

/// A line that gave the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// True if the line matches the pattern for success.
    pub success: bool,
    /// The line, quoted.
    pub line: String,
}

/// Searches a file that grows, line by line, from its beginning.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    read: u64,
    /// The unfinished last line.
    rest: Vec<u8>,
    changed: Instant,
}

impl Watch {
    /// Watches a file, which may not exist yet.
    pub(super) fn new(path: PathBuf) -> Watch {
        Watch { path, read: 0, rest: Vec::new(), changed: Instant::now() }
    }

    /// Returns the first match in what was appended since the last call.
    ///
    /// In a line that matches both patterns, failure wins. `end` says that nothing more will be appended.
    pub(super) fn search(
        &mut self,
        success: Option<&Pattern>,
        failure: Option<&Pattern>,
        end: bool,
    ) -> Option<Match> {
        let mut bytes = Vec::new();
        // A machine that did not start has written nothing.
        if let Ok(mut file) = File::open(&self.path)
            && file.seek(SeekFrom::Start(self.read)).is_ok()
        {
            let _ = file.read_to_end(&mut bytes);
        }
        if !bytes.is_empty() {
            self.read += bytes.len() as u64;
            self.changed = Instant::now();
        }
        let judge = |bytes: &[u8], matches: fn(&Pattern, &str) -> bool| {
            let text = String::from_utf8_lossy(bytes);
            let line = text.trim_end_matches(['\r', '\n']);
            let found = |pattern: Option<&Pattern>| pattern.is_some_and(|p| matches(p, line));
            let success = match (found(failure), found(success)) {
                (true, _) => false,
                (false, true) => true,
                (false, false) => return None,
            };
            Some(Match { success, line: one_line(line) })
        };
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.rest.extend(part);
            if part.ends_with(b"\n") || self.rest.len() >= MAX_LINE {
                let line = std::mem::take(&mut self.rest);
                for part in line.chunks(MAX_LINE) {
                    if let Some(found) = judge(part, Pattern::matches) {
                        return Some(found);
                    }
                }
            }
        }
        let is_whole = end || self.changed.elapsed() > QUIET;
        let matches = if is_whole { Pattern::matches } else { Pattern::matches_within };
        judge(&self.rest, matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn wrong_pattern_is_explained_in_one_line() {
        let wrong = "a(b".parse::<Pattern>().unwrap_err();
        assert!(wrong.starts_with("unclosed group; ") && !wrong.contains('\n'), "{wrong}");
        assert!("".parse::<Pattern>().unwrap_err().contains("every line"));
    }

    #[test]
    fn unfinished_line_matches_only_what_stays_true() {
        assert!(pattern("ok").matches_within("ok "));
        assert!(!pattern("ok$").matches_within("ok") && !pattern("ok").matches_within("ok"));
    }

    #[test]
    fn first_line_decides_and_failure_wins_within_a_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut watch = Watch::new(file.path().into());
        let (good, bad) = (pattern("^passed$"), pattern("failed"));
        let mut append = |text: &str| {
            use std::io::Write;
            let mut file = file.as_file();
            file.seek(SeekFrom::End(0)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            watch.search(Some(&good), Some(&bad), false)
        };
        assert_eq!(append("booting\r\npass"), None);
        assert_eq!(append("ed"), None);
        assert_eq!(append(" 3, ...\r\n"), None);
        let found = append("passed\r\nfailed\r\n").unwrap();
        assert_eq!((found.success, found.line.as_str()), (true, "passed"));
        let good = pattern("passed");
        std::fs::write(file.path(), "passed, failed\n").unwrap();
        let mut watch = Watch::new(file.path().into());
        assert!(!watch.search(Some(&good), Some(&bad), false).unwrap().success);
    }

    #[test]
    fn unfinished_line_counts_at_the_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "login:").unwrap();
        let mut watch = Watch::new(file.path().into());
        let good = pattern("login:");
        assert_eq!(watch.search(Some(&good), None, false), None);
        assert!(watch.search(Some(&good), None, true).unwrap().success);
    }
}
