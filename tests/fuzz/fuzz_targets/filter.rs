#![no_main]
//! Filters of accesses and their patterns, against a matcher that tries everything.

use fuzz::assert_message;
use libfuzzer_sys::fuzz_target;
use pvio_stats::access_filter::{AccessFilter, FilteredProcess};
use pvio_x86::{Direction, Port};

/// A process whose name is the text that patterns are compared with.
struct Process<'a>(&'a str);

impl FilteredProcess for Process<'_> {
    fn pid(&self) -> Option<u32> {
        Some(self.0.len() as u32)
    }

    fn comm(&self) -> Option<String> {
        Some(self.0.to_owned())
    }

    fn page_table(&self) -> Option<u64> {
        None
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let (filters, name) = text.split_once('\n').unwrap_or((text, ""));
    match AccessFilter::parse(filters.split(':')) {
        Ok(filter) => {
            let number =
                u64::from_le_bytes(std::array::from_fn(|at| data.get(at).copied().unwrap_or(0)));
            filter.covers_port(Port(number as u16), Direction::In);
            filter.covers_value(Some(number as u32));
            filter.covers_code(number, || Some(name));
            filter.covers_process(Some(&Process(name)));
            assert!(!filter.covers_all() || filter.covers_port(Port(0), Direction::Out));
        }
        Err(error) => assert_message(&error),
    }
    // A pattern as the name of a process, which is compared as a whole.
    let is_number = filters.starts_with(|first: char| first.is_ascii_digit() || first == '+');
    if !filters.is_empty() && filters.len() <= 12 && name.len() <= 24 && !is_number {
        let filter = AccessFilter::parse([format!("process={filters}").as_str()]);
        let found = filter.expect("a name").covers_process(Some(&Process(name)));
        let (pattern, name): (Vec<char>, Vec<char>) =
            (filters.chars().collect(), name.chars().collect());
        assert_eq!(found, matches(&pattern, &name), "{filters:?} and {name:?}");
    }
});

fn matches(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|skipped| matches(rest, &text[skipped..])),
        Some((first, rest)) => {
            text.split_first().is_some_and(|(next, text)| next == first && matches(rest, text))
        }
    }
}
