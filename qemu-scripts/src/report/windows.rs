//! Windows side by side: the accesses of each window by port or device.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use maud::{Markup, html};

use super::charts::by_name;
use super::grouped::{Group, MAX_SERIES, grouped_chart};
use crate::stats::text_table::number;
use crate::stats::{Snapshot, WindowRow};

/// Maximum number of ports and devices. The last one stands for all others.
const MAX_GROUPS: usize = 9;

/// Renders the chart if there are at least two windows with accesses.
pub fn side_by_side(dump: &Snapshot) -> Markup {
    let comparable = |window: &&WindowRow| !window.rows_dropped && window.accesses() > 0;
    let mut busiest: Vec<(usize, &WindowRow)> =
        dump.windows.iter().filter(comparable).enumerate().collect();
    let count = busiest.len();
    busiest.sort_by_key(|(_, window)| Reverse(window.accesses()));
    busiest.truncate(MAX_SERIES);
    busiest.sort_by_key(|(index, _)| *index);
    let windows: Vec<&WindowRow> = busiest.into_iter().map(|(_, window)| window).collect();
    let names: Vec<String> = windows.iter().map(|window| window.name.clone()).collect();
    if windows.len() < 2 {
        return html! {};
    }
    let note = match count > windows.len() {
        true => format!("The busiest {} of {} windows.", windows.len(), number(count as u64)),
        false => String::new(),
    };
    grouped_chart("Windows side by side, by port", &names, &groups(&windows), &note)
}

fn groups(windows: &[&WindowRow]) -> Vec<Group> {
    let mut sums: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (index, window) in windows.iter().enumerate() {
        for bar in by_name(window, |row| [row.accesses(), 0]) {
            sums.entry(bar.label).or_insert_with(|| vec![0; windows.len()])[index] += bar.counts[0];
        }
    }
    let mut groups: Vec<Group> =
        sums.into_iter().map(|(label, counts)| Group { label, counts }).collect();
    groups.sort_by_key(|group| Reverse(group.counts.iter().copied().max()));
    if groups.len() > MAX_GROUPS {
        let rest = groups.split_off(MAX_GROUPS - 1);
        let counts = (0..windows.len()).map(|index| rest.iter().map(|g| g.counts[index]).sum());
        let counts = counts.collect();
        groups.push(Group { label: format!("{} others", rest.len()), counts });
    }
    groups
}
