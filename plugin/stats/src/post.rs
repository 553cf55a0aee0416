//! POST codes as text.

use crate::schema::{PostRow, Snapshot};
use crate::text_table::{TextTable, number};

/// Maximum number of codes that the summary shows. The dump has all.
const SHOWN: usize = 32;

/// Renders nanoseconds as seconds, with microseconds.
pub(crate) fn seconds(nanoseconds: u64) -> String {
    let micros = nanoseconds / 1000;
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// Returns a value in hexadecimal, with as many digits as its size has; `?` if it is not known.
fn code(row: &PostRow) -> String {
    let digits = 2 + 2 * usize::from(row.size.bytes().unwrap_or(4));
    row.value.map_or_else(|| "?".to_owned(), |value| format!("{value:#0digits$x}"))
}

/// The POST codes: a heading and a table. The last codes are shown, since they say where a boot hangs.
pub(crate) fn codes(snapshot: &Snapshot) -> (String, String) {
    let rows = &snapshot.post;
    let clock = match &snapshot.post_clock {
        Some(clock) => format!(", times by the {clock}'s clock"),
        None => String::new(),
    };
    let title = match rows.len() > SHOWN {
        true => format!("The last {SHOWN} of {} POST codes{clock}", number(rows.len() as u64)),
        false => format!("POST codes{clock}"),
    };
    let shown = &rows[rows.len().saturating_sub(SHOWN)..];
    let has_vcpus = shown.iter().any(|row| row.vcpu != shown[0].vcpu);
    let unverified = shown.iter().any(|row| row.unverified > 0);
    let mut table = TextTable::new(&[
        "<port",
        ">code",
        ">times",
        if unverified { ">unverified" } else { "" },
        ">first s",
        ">last s",
        if has_vcpus { ">vCPU" } else { "" },
    ]);
    for row in shown {
        table.row([
            row.port.to_string(),
            code(row),
            number(row.count),
            number(row.unverified),
            seconds(row.first_ns),
            seconds(row.last_ns),
            row.vcpu.map_or_else(|| "-".to_owned(), |vcpu| vcpu.to_string()),
        ]);
    }
    (title, table.render())
}

#[cfg(test)]
mod tests {
    use pvio_x86::{Port, Width};

    use super::*;
    use crate::test_data::snapshot;
    use crate::{Snapshot, merge, render};

    fn row(value: Option<u32>, size: Width, count: u64) -> PostRow {
        let first_ns = 1_234_567 * u64::from(value.unwrap_or(1));
        PostRow {
            port: Port(0x80),
            size: size.into(),
            value,
            vcpu: Some(0),
            count,
            unverified: 0,
            first_ns,
            last_ns: first_ns + 1000 * count,
        }
    }

    fn dump(rows: Vec<PostRow>) -> Snapshot {
        Snapshot { post: rows, post_clock: Some("guest".into()), ..snapshot(1) }
    }

    #[test]
    fn codes_are_in_their_order() {
        let rows = vec![
            row(Some(0x10), Width::Byte, 1),
            row(Some(2), Width::Byte, 1234),
            PostRow { vcpu: Some(1), unverified: 2, ..row(Some(0xbeef), Width::Word, 2) },
            row(None, Width::Byte, 1),
        ];
        let (title, table) = codes(&dump(rows));
        insta::assert_snapshot!(format!("{title}\n{table}"));
    }

    #[test]
    fn summary_shows_the_last_codes_and_how_many_were_dropped() {
        let mut dump = dump((0..40).map(|value| row(Some(value), Width::Byte, 1)).collect());
        dump.post_dropped = 7;
        let text = render(&dump, false);
        assert!(text.contains("\nThe last 32 of 40 POST codes, times by the guest's clock\n"));
        assert!(text.contains(" 0x27 ") && text.contains(" 0x08 ") && !text.contains(" 0x07 "));
        assert!(
            text.contains("\n  7 codes before the last did not fit into the table\n"),
            "{text}"
        );
    }

    #[test]
    fn codes_of_several_runs_are_not_merged() {
        let dump = dump(vec![row(Some(1), Width::Byte, 1)]);
        assert_eq!(merge(std::slice::from_ref(&dump)).unwrap(), dump);
        let sum = merge(&[dump.clone(), dump]).unwrap();
        assert_eq!((sum.post, sum.post_clock, sum.post_dropped), (Vec::new(), None, 0));
    }
}
