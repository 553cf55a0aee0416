//! Values at ports: a timeline as text, and addition.

use crate::check::overflowing_values;
use crate::merge::MergeError;
use crate::post::seconds;
use crate::rows::add_up;
use crate::schema::{AccessCounts, Snapshot, ValueMoment, ValueRow};
use crate::text_table::{TextTable, number};

impl ValueRow {
    /// The value in hexadecimal, with as many digits as its size has; `?` if it is not known.
    pub fn value_text(&self) -> String {
        let digits = 2 + 2 * usize::from(self.size.bytes().unwrap_or(4));
        self.value.map_or_else(|| "?".to_owned(), |value| format!("{value:#0digits$x}"))
    }
}

impl ValueMoment {
    /// The time in seconds, with microseconds.
    pub fn seconds(&self) -> String {
        seconds(self.time_ns)
    }
}

/// The values in the order in which they first came; in a merged dump in the order of the table.
pub fn timeline<'a>(rows: impl IntoIterator<Item = &'a ValueRow>) -> Vec<&'a ValueRow> {
    let mut rows: Vec<&ValueRow> = rows.into_iter().collect();
    rows.sort_by_key(|row| row.first.map(|first| (first.accesses, first.time_ns)));
    rows
}

/// Renders values as a text table.
pub(crate) fn table<'a>(rows: impl IntoIterator<Item = &'a ValueRow>) -> String {
    let rows: Vec<&ValueRow> = rows.into_iter().collect();
    let unverified = rows.iter().any(|row| row.counts.unverified > 0);
    let has_times = rows.iter().any(|row| row.first.is_some());
    let if_times = |heading| if has_times { heading } else { "" };
    let mut table = TextTable::new(&[
        "<port",
        "<dir",
        ">size",
        ">value",
        ">accesses",
        if unverified { ">unverified" } else { "" },
        if_times(">first s"),
        if_times(">last s"),
        if_times(">accesses before first"),
        if_times(">before last"),
    ]);
    for row in rows {
        let seconds =
            |moment: Option<ValueMoment>| moment.map_or("-".to_owned(), |at| at.seconds());
        let accesses =
            |moment: Option<ValueMoment>| moment.map_or("-".to_owned(), |at| number(at.accesses));
        table.row([
            row.port.to_string(),
            row.dir.to_string(),
            row.size.to_string(),
            row.value_text(),
            number(row.counts.accesses),
            number(row.counts.unverified),
            seconds(row.first),
            seconds(row.last),
            accesses(row.first),
            accesses(row.last),
        ]);
    }
    table.render()
}

/// Adds up the values of several dumps, and the counts of dropped values.
pub(crate) fn merge(dumps: &[Snapshot]) -> Result<(Vec<ValueRow>, AccessCounts), MergeError> {
    let rows = || dumps.iter().flat_map(|dump| &dump.values);
    let dropped = dumps.iter().map(|dump| &dump.values_dropped);
    if overflowing_values(rows().map(|row| &row.counts).chain(dropped.clone())) {
        return Err(MergeError::Overflow("values"));
    }
    let mut sum = AccessCounts::default();
    dropped.for_each(|counts| sum.add(counts));
    let mut rows = add_up(rows());
    if dumps.len() > 1 {
        rows.iter_mut().for_each(|row| (row.first, row.last) = (None, None));
    }
    Ok((rows, sum))
}

#[cfg(test)]
mod tests {
    use pvio_x86::{Direction, Port, Width};

    use super::*;
    use crate::test_data::snapshot;

    fn row(value: Option<u32>, size: Width, accesses: u64) -> ValueRow {
        let moment = |time_ns, accesses| Some(ValueMoment { time_ns, accesses });
        ValueRow {
            port: Port(0x80),
            dir: Direction::Out,
            size: size.into(),
            value,
            counts: AccessCounts { accesses, unverified: 0 },
            first: moment(1_234_567_890 * accesses, 1000 * accesses),
            last: moment(1_234_567_890 * accesses + 999, 1000 * accesses + 7),
        }
    }

    #[test]
    fn values_are_a_timeline() {
        let rows = [
            row(Some(0xabcd), Width::Word, 3),
            row(None, Width::Byte, 2),
            row(Some(5), Width::Byte, 1),
        ];
        insta::assert_snapshot!(table(timeline(&rows)));
    }

    #[test]
    fn times_of_several_runs_are_not_known() {
        let mut dump = snapshot(5);
        dump.values = vec![row(Some(1), Width::Byte, 2), row(Some(2), Width::Byte, 3)];
        dump.values_clock = Some("guest".into());
        dump.values_dropped.accesses = 4;
        let one = crate::merge(&[dump.clone()]).unwrap();
        assert_eq!((&one.values, &one.values_clock), (&dump.values, &dump.values_clock));
        let mut other = snapshot(5);
        other.values = vec![row(Some(2), Width::Byte, 1)];
        let sum = crate::merge(&[dump, other]).unwrap();
        let counts: Vec<_> =
            sum.values.iter().map(|row| (row.value, row.counts.accesses, row.first)).collect();
        assert_eq!(counts, [(Some(1), 2, None), (Some(2), 4, None)]);
        assert_eq!((sum.values_dropped.accesses, sum.values_clock), (4, None));
    }
}
