//! The result of a check as GitHub's workflow commands, which become annotations.

use std::fmt::Write;

use super::text::callers;
use crate::check::{Offence, Verdict};
use crate::guest_test::{data, property};
use crate::stats::text_table::{number, printable};

/// Renders a result as one line for each offence, in which escapes stand for line ends.
pub fn to_github(verdict: &Verdict<'_>) -> String {
    verdict.offences.iter().map(annotation).collect()
}

fn annotation(offence: &Offence<'_>) -> String {
    let access = &offence.access;
    let mut text = format!(
        "{} {} of {} by {} ({} accesses): {}",
        access.dir,
        access.size,
        access.port,
        printable(&access.code.shown()),
        number(access.all()),
        printable(offence.reason.unwrap_or("the rule denies it")),
    );
    for chain in &offence.origin.chains {
        let _ = write!(text, "\ncalled by {}", printable(&callers(chain, usize::MAX)));
    }
    let title = property(&printable(&format!("pvio check: {}", offence.rule)));
    let place = match access.code.source().and_then(|source| source.rsplit_once(':')) {
        Some((file, line)) => {
            format!("file={},line={},", property(&printable(file)), property(&printable(line)))
        }
        None => String::new(),
    };
    format!("::error {place}title={title}::{}\n", data(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::test_accesses::linux;
    use crate::check::{Against, Origins, Policy};

    #[test]
    fn each_offence_is_an_annotation() {
        let dump = linux();
        let tdx = Policy::built_in("tdx").unwrap();
        let against = Against { policy: Some(&tdx), baseline: None };
        let verdict = Verdict::new(&dump, against, &Origins::of_tables(&dump));
        let text = to_github(&verdict);
        assert_eq!(text.lines().count(), 7);
        let first = text.lines().next().unwrap();
        assert_eq!(
            first,
            "::error title=pvio check%3A default::in 1 of 0x0040 by pit_read+0x1 (2,400 accesses): the specification \
             does not list the port%0Acalled by setup_timers+0x2 < start_kernel+0x90"
        );
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("::error file=kernel/early.c,line=45,title="), "{last}");
    }
}
