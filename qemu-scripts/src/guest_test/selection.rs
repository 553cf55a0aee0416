//! Chooses the guests of the command line that this run boots.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::str::FromStr;

use super::unittests::Unittest;
use super::{Pattern, Suite};

/// One of several parts of a suite: `2/3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let parts = text.split_once('/').and_then(|(index, count)| {
            Some(Shard { index: index.parse().ok()?, count: count.parse().ok()? })
        });
        let shard = parts.filter(|shard| (1..=shard.count).contains(&shard.index));
        shard.ok_or_else(|| "a shard is I/N, with I from 1 to N, such as 2/3".into())
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Shard {
    /// Returns true if a guest is in this shard. Its name alone decides, so other guests do not move it.
    fn contains(self, name: &str) -> bool {
        crc32fast::hash(name.as_bytes()) as usize % self.count == self.index - 1
    }
}

/// Which guests to run, and how often.
#[derive(Debug)]
pub struct Selection {
    /// Only guests whose names match. A guest's name is its path, or the name that a list gives to it.
    pub filter: Option<Pattern>,
    /// Only tests of kvm-unit-tests in this group.
    pub group: Option<String>,
    /// Only guests of this part.
    pub shard: Option<Shard>,
    /// The number of runs of each guest.
    pub repeat: NonZeroUsize,
}

/// Every guest, once.
impl Default for Selection {
    fn default() -> Selection {
        Selection { filter: None, group: None, shard: None, repeat: NonZeroUsize::MIN }
    }
}

/// A run of a guest.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    suite: &'a Suite,
    /// The guest's index in the suite.
    index: usize,
    /// Which run it is of how many.
    run: (usize, usize),
}

impl<'a> Entry<'a> {
    /// Returns the guest's file or directory.
    pub fn path(&self) -> &'a Path {
        self.suite.path(self.index)
    }

    /// Returns the guest's name, and which of several runs it is.
    pub fn name(&self) -> String {
        let name = self.suite.name(self.index);
        match self.run {
            (_, 1) => name.into_owned(),
            (run, runs) => format!("{name} (run {run} of {runs})"),
        }
    }

    /// Returns the last part of the guest's name.
    pub(super) fn file_name(&self) -> String {
        match self.suite {
            Suite::Paths(_) => self.path().file_name().unwrap_or_default().to_string_lossy().into(),
            _ => self.suite.name(self.index).into_owned(),
        }
    }

    /// Returns the test of kvm-unit-tests that it is.
    pub(super) fn unittest(&self) -> Option<&'a Unittest> {
        self.suite.unittest(self.index)
    }

    /// Returns a number that only this run has: `4`, or `4.2` for the second of several runs.
    pub(super) fn number(&self) -> String {
        match self.run {
            (_, 1) => (self.index + 1).to_string(),
            (run, _) => format!("{}.{run}", self.index + 1),
        }
    }
}

/// The runs of a selection. It holds four bytes for each guest.
#[derive(Debug)]
pub struct Entries<'a> {
    suite: &'a Suite,
    /// Indexes of the selected guests.
    selected: Vec<u32>,
    repeat: usize,
}

impl<'a> Entries<'a> {
    /// Selects runs.
    pub fn new(suite: &'a Suite, selection: &Selection) -> Entries<'a> {
        let is_selected = |index: usize| {
            let name = suite.name(index);
            selection.filter.as_ref().is_none_or(|filter| filter.matches(&name))
                && selection.shard.is_none_or(|shard| shard.contains(&name))
                && selection.group.as_ref().is_none_or(|group| suite.is_in_group(index, group))
        };
        let selected = (0..suite.len()).filter(|&index| is_selected(index));
        let selected = selected.map(|index| index as u32).collect();
        Entries { suite, selected, repeat: selection.repeat.get() }
    }

    /// Returns the number of runs.
    pub fn len(&self) -> usize {
        self.selected.len() * self.repeat
    }

    /// Returns true if there are no runs.
    pub fn is_empty(&self) -> bool {
        self.selected.is_empty()
    }

    /// Returns a run by its number, from 0. The runs of one guest follow each other.
    pub fn get(&self, number: usize) -> Option<Entry<'a>> {
        let index = *self.selected.get(number / self.repeat)? as usize;
        Some(Entry { suite: self.suite, index, run: (number % self.repeat + 1, self.repeat) })
    }

    /// Returns the first run of each guest.
    pub fn first_runs(&self) -> impl Iterator<Item = Entry<'a>> + '_ {
        (0..self.len()).step_by(self.repeat).filter_map(|number| self.get(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(filter: Option<&str>, shard: Option<&str>, repeat: usize) -> Selection {
        Selection {
            filter: filter.map(|text| text.parse().unwrap()),
            group: None,
            shard: shard.map(|text| text.parse().unwrap()),
            repeat: NonZeroUsize::new(repeat).unwrap(),
        }
    }

    fn names(guests: &Suite, selection: &Selection) -> Vec<String> {
        let entries = Entries::new(guests, selection);
        (0..entries.len()).map(|number| entries.get(number).unwrap().name()).collect()
    }

    fn guests(numbers: impl Iterator<Item = usize>) -> Suite {
        Suite::Paths(numbers.map(|number| format!("tests/{number}.bin").into()).collect())
    }

    #[test]
    fn shards_are_disjoint_and_complete_and_stable() {
        let all = guests(0..1000);
        let shards: Vec<_> = (1..=3)
            .map(|index| names(&all, &selection(None, Some(&format!("{index}/3")), 1)))
            .collect();
        assert!(shards.iter().all(|shard| shard.len() > 250), "{shards:?}");
        let mut together = shards.concat();
        together.sort_unstable();
        together.dedup();
        assert_eq!(together.len(), 1000);
        // Fewer guests in another order: each stays in its shard.
        let fewer = guests((0..1000).rev().step_by(7));
        for name in names(&fewer, &selection(None, Some("2/3"), 1)) {
            assert!(shards[1].contains(&name), "{name}");
        }
    }

    #[test]
    fn repeated_runs_have_names_and_numbers() {
        let all = guests(0..3);
        let selection = selection(Some(r"[12]\.bin$"), None, 2);
        let of = |run, guest| format!("tests/{guest}.bin (run {run} of 2)");
        assert_eq!(names(&all, &selection), [of(1, 1), of(2, 1), of(1, 2), of(2, 2)]);
        let entries = Entries::new(&all, &selection);
        assert_eq!(entries.get(3).unwrap().number(), "3.2");
        assert!(entries.get(4).is_none());
        assert_eq!(entries.first_runs().count(), 2);
    }

    #[test]
    fn wrong_shard_is_refused() {
        for wrong in ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
