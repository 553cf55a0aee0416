//! Cells of tables of changes, which text and HTML share.

use thousands::Separable;

use crate::diff::rows::Described;
use crate::stats::Change;
use crate::stats::text_table::number;

/// Returns the cells of a changed row: its name, counts before and after, the change, its percentage, other changes.
pub fn change_cells<R: Described>(change: &Change<R>) -> [String; 9] {
    let counts = change.accesses();
    let percent = match (&change.before, &change.after) {
        (None, _) => "new".to_owned(),
        (_, None) => "gone".to_owned(),
        _ => share(counts),
    };
    let [before, after] = counts.map(number);
    let row = change.after.as_ref().or(change.before.as_ref());
    let [one, two, three, four] = row.map(R::name).unwrap_or_default();
    let difference = signed(change.difference());
    [one, two, three, four, before, after, difference, percent, other_changes(change)]
}

/// Lists the other counts whose change is not that of the accesses.
fn other_changes<R: Described>(change: &Change<R>) -> String {
    let (Some(before), Some(after)) = (&change.before, &change.after) else {
        return String::new();
    };
    let changes = before.others().into_iter().zip(after.others());
    let changes = changes.filter_map(|((name, before), (_, after))| {
        let difference = difference([before?, after?]);
        let is_redundant = difference == 0 || difference == change.difference();
        (!is_redundant).then(|| format!("{name} {}", signed(difference)))
    });
    let mut changes: Vec<String> = changes.collect();
    changes.extend(R::renamed(before, after));
    changes.join(", ")
}

/// Returns the second count minus the first.
pub fn difference([before, after]: [u64; 2]) -> i128 {
    i128::from(after) - i128::from(before)
}

/// Formats a number with its sign and with commas between thousands.
pub fn signed(number: i128) -> String {
    match number {
        0 => "0".to_owned(),
        _ if number > 0 => format!("+{}", number.separate_with_commas()),
        _ => number.separate_with_commas(),
    }
}

/// Formats the change in percent of the first count, with one decimal.
pub fn share(counts: [u64; 2]) -> String {
    match counts {
        [before, after] if before == after => "0.0".to_owned(),
        [0, _] => "-".to_owned(),
        [before, _] => format!("{:+.1}", difference(counts) as f64 * 100.0 / before as f64),
    }
}
