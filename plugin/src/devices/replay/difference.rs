//! The first difference between a driver and its recording, with both histories, as text.

use std::collections::VecDeque;
use std::ops::Range;

use super::access::{Access, Key};
use super::recording::{Recording, Run, Step};

/// Different accesses that each history shows.
const SHOWN: usize = 6;

/// What the driver does, and the recording does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A write that is not the next one.
    Write(Access),
    /// A read of data when none is next.
    Data(Key),
    /// A read of what was never read so.
    Read(Key),
    /// Reads without end of a value that changes only after another access.
    Wait(Key),
}

/// The first difference.
#[derive(Debug)]
pub(super) struct Difference {
    pub why: Why,
    /// The recorded accesses before it.
    pub passed: u64,
    /// All recorded accesses.
    pub total: u64,
    /// What is recorded around its place.
    pub recorded: Surroundings,
    /// What the driver did before.
    pub driver: Vec<String>,
}

impl Difference {
    /// The lines that report it.
    pub fn lines(&self) -> [String; 4] {
        let Difference { passed, total, recorded, .. } = self;
        let next = recorded.next.as_deref().unwrap_or("nothing");
        let what = match self.why {
            Why::Write(access) => format!("the driver makes {access}"),
            Why::Data(key) => {
                format!("the driver makes {key}, a read of data that was not recorded here")
            }
            Why::Read(key) => format!("the driver makes {key}, which was not recorded"),
            Why::Wait(key) => {
                format!(
                    "the driver repeats {key} and waits for a value that comes after another access"
                )
            }
        };
        let join = |texts: &[String]| match texts {
            [] => "nothing".to_owned(),
            texts => texts.join("; "),
        };
        [
            format!(
                "first difference, after {passed} of {total} recorded accesses: {what}; next recorded: {next}"
            ),
            format!("recorded before: {}", join(&recorded.before)),
            format!("recorded next: {}", join(&recorded.after)),
            format!("the driver before: {}", join(&self.driver)),
        ]
    }
}

/// What is recorded around a place, as text.
#[derive(Debug)]
pub(super) struct Surroundings {
    before: Vec<String>,
    after: Vec<String>,
    /// The next access that the driver must make.
    next: Option<String>,
}

impl Surroundings {
    /// What is recorded around `done` accesses of the step `at`. The step `next` is the one that the driver must make.
    pub fn of(
        recording: &Recording,
        (at, done): (usize, u32),
        next: Option<usize>,
    ) -> Surroundings {
        let text = |(index, step): (usize, &Step)| match step {
            Step::Irq { line, level } => {
                format!("irq {line} {}", if *level { "raised" } else { "lowered" })
            }
            Step::Run(run) => text(recording, run, if index == at { done } else { 0 }..run.count),
        };
        let steps = || recording.steps.iter().enumerate();
        let mut before: Vec<String> =
            steps().take(at).skip(at.saturating_sub(SHOWN)).map(text).collect();
        if let Some(Step::Run(run)) = recording.steps.get(at).filter(|_| done > 0) {
            before.push(self::text(recording, run, 0..done));
        }
        Surroundings {
            before,
            after: steps().skip(at).take(SHOWN).map(text).collect(),
            next: next.and_then(|next| steps().nth(next)).map(text),
        }
    }
}

/// Accesses of a run.
fn text(recording: &Recording, run: &Run, accesses: Range<u32>) -> String {
    let count = accesses.end - accesses.start;
    match run.is_string && count > 1 {
        true => format!("{} ({count} times)", run.key),
        false => {
            let value = recording.value(run, accesses.start);
            repeated(Access { key: run.key, value }, count)
        }
    }
}

fn repeated(access: Access, count: u32) -> String {
    match count {
        1 => access.to_string(),
        _ => format!("{access} ({count} times)"),
    }
}

/// The last different accesses of the driver.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<(Access, bool, u32)>);

impl History {
    /// Adds `more` accesses. Elements of data are shown together.
    pub fn add(&mut self, access: Access, is_data: bool, more: u32) {
        if let Some((last, last_is_data, count)) = self.0.back_mut()
            && last.key == access.key
            && *last_is_data == is_data
            && (is_data || last.value == access.value)
        {
            *count = count.saturating_add(more);
            return;
        }
        if self.0.len() == SHOWN {
            self.0.pop_front();
        }
        self.0.push_back((access, is_data, more));
    }

    /// The accesses as text, the last one last.
    pub fn texts(&self) -> Vec<String> {
        let text = |&(access, is_data, count): &(Access, bool, u32)| match is_data && count > 1 {
            true => format!("{} ({count} times)", access.key),
            false => repeated(access, count),
        };
        self.0.iter().map(text).collect()
    }
}
