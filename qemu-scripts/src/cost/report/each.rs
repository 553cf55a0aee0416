//! Several runs side by side: a row for each.

use std::cmp::Reverse;

use super::{Style, count};
use crate::cost::clusters::Clusters;
use crate::cost::groups::Groups;
use crate::cost::model::Model;
use crate::cost::page::{Page, left, right};
use crate::cost::price::Costed;
use crate::stats::Snapshot;
use crate::stats::text_table::{number, percent};

/// The number of ports that are named for each run.
const PORTS: usize = 3;

/// One of several runs.
#[derive(Debug)]
pub struct NamedRun {
    /// Its name.
    pub name: String,
    /// Its dump.
    pub dump: Snapshot,
    /// The accesses of the dump.
    pub groups: Groups,
    /// The clusters of its trace; `None` without a trace.
    pub clusters: Option<Clusters>,
}

impl NamedRun {
    fn accesses(&self) -> u64 {
        self.groups.groups.iter().map(|group| group.accesses).sum()
    }

    /// The ports with the most accesses, with their names and accesses.
    fn busiest(&self) -> Vec<(String, u64)> {
        let mut ports = std::collections::BTreeMap::new();
        for group in &self.groups.groups {
            *ports.entry((group.port, group.dir)).or_default() += group.accesses;
        }
        let mut ports: Vec<_> = ports.into_iter().collect();
        ports.sort_by_key(|&(port, accesses)| (Reverse(accesses), port));
        let named = |((port, dir), accesses)| {
            let row = self.dump.ports.iter().find(|row| row.port == port && row.name.is_some());
            let name = row.and_then(|row| row.name.as_deref()).unwrap_or_default();
            (format!("{dir} {port} {name}").trim_end().to_owned(), accesses)
        };
        ports.into_iter().take(PORTS).map(named).collect()
    }
}

/// Prints what each run would cost, and which ports it accesses most.
pub fn render_each(runs: &[NamedRun], models: &[Model], style: Style) -> String {
    let mut page = Page::new(style.format);
    page.heading("What each run's port I/O would cost as VM exits");
    let mut columns = vec![left("run"), right("accesses")];
    for model in models {
        let unit = model.unit.of_sums();
        columns.extend([right(format!("{} exits", model.name)), right(unit)]);
    }
    let rows = runs.iter().map(|run| {
        let mut cells = vec![run.name.clone(), number(run.accesses())];
        for model in models {
            let total = Costed::new(&run.groups, model).total();
            cells.extend([count(total.exits), total.shown(model.unit)]);
        }
        cells
    });
    page.table(columns, rows.collect());

    page.heading("The busiest ports of each run");
    let mut columns = vec![left("run")];
    (1..=PORTS).for_each(|index| columns.push(left(&format!("port {index}"))));
    let rows = runs.iter().map(|run| {
        let all = run.accesses();
        let mut ports = run.busiest().into_iter();
        let cell = |port: Option<(String, u64)>| {
            port.map_or_else(String::new, |(name, accesses)| {
                format!("{name}, {}", percent(accesses, all))
            })
        };
        let cells = (0..PORTS).map(|_| cell(ports.next()));
        std::iter::once(run.name.clone()).chain(cells).collect()
    });
    let rows = rows.collect();
    page.table(columns, rows);

    if runs.iter().any(|run| run.clusters.is_some()) {
        page.heading("What one exit for each cluster would save");
        let columns = vec![
            left("run"),
            right("by in and out"),
            right("in clusters"),
            right("%"),
            right("exits saved"),
            right("%"),
        ];
        let rows = runs.iter().filter_map(|run| {
            let clusters = run.clusters.as_ref()?;
            let [all, clustered, saved] =
                [clusters.accesses, clusters.clustered(), clusters.saved_exits()];
            Some(vec![
                run.name.clone(),
                number(all),
                number(clustered),
                percent(clustered, all),
                number(saved),
                percent(saved, all),
            ])
        });
        page.table(columns, rows.collect());
    }
    page.finish()
}
