//! The options of libtest that make sense for a guest.

/// Options with a value in the next word, which have no meaning here.
const WITH_VALUE: [&str; 5] = ["--test-threads", "--color", "--format", "--logfile", "-Z"];

/// Options that change nothing here: tests run one after the other, and their output is always shown.
const WITHOUT_MEANING: [&str; 6] =
    ["--nocapture", "--no-capture", "--show-output", "-q", "--quiet", "--test"];

/// A parsed command line.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    command_line: &'a str,
    /// `--list`: the names are reported, and nothing runs.
    pub list: bool,
    exact: bool,
}

/// A word that means something.
enum Word<'a> {
    /// Only tests with this in their names.
    Filter(&'a str),
    /// `--skip`: no tests with this in their names.
    Skip(&'a str),
    Unknown(&'a str),
}

impl<'a> Options<'a> {
    /// Parses a command line.
    pub fn of(command_line: &'a str) -> Options<'a> {
        let has = |option: &str| command_line.split_whitespace().any(|word| word == option);
        Options { command_line, list: has("--list"), exact: has("--exact") }
    }

    fn words(self) -> impl Iterator<Item = Word<'a>> {
        let mut words = self.command_line.split_whitespace();
        core::iter::from_fn(move || {
            loop {
                let word = words.next()?;
                if WITH_VALUE.contains(&word) {
                    words.next();
                } else if word == "--skip" {
                    return words.next().map(Word::Skip);
                } else if let Some(text) = word.strip_prefix("--skip=") {
                    return Some(Word::Skip(text));
                } else if !word.starts_with('-') {
                    return Some(Word::Filter(word));
                } else if !self.is_known(word) {
                    return Some(Word::Unknown(word));
                }
            }
        })
    }

    fn is_known(self, word: &str) -> bool {
        let with_value = WITH_VALUE
            .iter()
            .any(|option| word.strip_prefix(option).is_some_and(|rest| rest.starts_with('=')));
        with_value || WITHOUT_MEANING.contains(&word) || matches!(word, "--list" | "--exact")
    }

    /// Returns the options that are unknown.
    pub fn unknown(self) -> impl Iterator<Item = &'a str> {
        self.words().filter_map(|word| match word {
            Word::Unknown(word) => Some(word),
            _ => None,
        })
    }

    /// Returns true if a test is to run.
    pub fn selects(self, name: &str) -> bool {
        let matches = |text: &str| if self.exact { name == text } else { name.contains(text) };
        let (mut has_filter, mut is_wanted) = (false, false);
        for word in self.words() {
            match word {
                Word::Filter(text) => (has_filter, is_wanted) = (true, is_wanted || matches(text)),
                Word::Skip(text) if matches(text) => return false,
                Word::Skip(_) | Word::Unknown(_) => {}
            }
        }
        is_wanted || !has_filter
    }
}
