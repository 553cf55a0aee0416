//! The page's charts.

use std::collections::BTreeMap;

use maud::{Markup, html};
use pvio_x86::Direction;

use crate::report::answer::functions;
use crate::report::chart::{Bar, chart, ordered_chart};
use crate::report::windows::side_by_side;
use crate::stats::{PortRow, Snapshot, Tables};

/// Renders the charts. Those without data are left out.
pub fn all(dump: &Snapshot) -> Markup {
    html! {
        @if dump.accesses() > 0 {
            (ports(dump))
            (sites(dump))
            (forms(dump))
            (hypercalls(dump))
        }
        @if !dump.windows.is_empty() {
            (windows(dump))
            (side_by_side(dump))
        }
    }
}

/// Adds up counts by the ports' names. A port without a name appears by its number.
pub(super) fn by_name(tables: &Tables, counts: impl Fn(&PortRow) -> [u64; 2]) -> Vec<Bar> {
    let mut sums: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for row in &tables.ports {
        let name = row.name.as_deref().map_or_else(|| row.port.to_string(), str::to_owned);
        let sum = sums.entry(name).or_default();
        sum.iter_mut().zip(counts(row)).for_each(|(sum, count)| *sum += count);
    }
    let bars = sums.into_iter().map(|(label, counts)| Bar { label, counts: counts.to_vec() });
    bars.collect()
}

fn ports(dump: &Snapshot) -> Markup {
    let bars = by_name(dump, |row| match row.dir {
        Direction::In => [row.accesses(), 0],
        Direction::Out => [0, row.accesses()],
    });
    chart("Accesses by port", &["in", "out"], bars, dump.accesses())
}

fn sites(dump: &Snapshot) -> Markup {
    let bars = functions(dump)
        .into_iter()
        .map(|(function, count)| Bar { label: function.to_string(), counts: vec![count] });
    chart("Accesses by function", &["accesses"], bars.collect(), dump.accesses())
}

fn forms(dump: &Snapshot) -> Markup {
    let bar = |label: &str, count| Bar { label: label.to_owned(), counts: vec![count] };
    let bars = dump.forms.iter().map(|row| bar(row.form.name(), row.accesses)).collect();
    chart("Accesses by form", &["accesses"], bars, dump.accesses())
}

fn by_way(tables: &Tables) -> [u64; 2] {
    [tables.instruction_accesses(), tables.hypercall_accesses()]
}

/// Compares hypercalls with instructions: the total, then by port.
fn hypercalls(dump: &Snapshot) -> Markup {
    let mut bars = by_name(dump, |row| [row.device + row.qemu, row.hypercall]);
    bars.retain(|bar| bar.counts[1] > 0);
    bars.sort_by_key(|bar| std::cmp::Reverse(bar.counts.iter().sum::<u64>()));
    let all = by_way(dump);
    bars.insert(0, Bar { label: "all ports".to_owned(), counts: all.to_vec() });
    html! {
        @if all[1] > 0 {
            (ordered_chart("Instructions and hypercalls", &["by instruction", "by hypercall"], bars, dump.accesses()))
        }
    }
}

fn windows(dump: &Snapshot) -> Markup {
    let bars = dump
        .windows
        .iter()
        .map(|window| Bar { label: window.name.clone(), counts: by_way(window).to_vec() });
    let series = ["by instruction", "by hypercall"];
    ordered_chart("Accesses by window", &series, bars.collect(), dump.accesses())
}
