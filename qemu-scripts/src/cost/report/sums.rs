//! Tables of sums: by form, port, site and caller.

use std::cmp::Reverse;

use super::{MAX_ROWS, Report, count, share, site_cells};
use crate::cost::callers::Callers;
use crate::cost::groups::Group;
use crate::cost::page::{Column, left, right};
use crate::cost::price::Sum;
use crate::stats::text_table::number;

/// A row of a table: the cells that name it, and its sums by model.
type Row = (Vec<String>, Vec<Sum>);

impl Report<'_> {
    pub(super) fn forms(&mut self) {
        let rows = self.rows(
            |group| group.form,
            |form| vec![form.map_or("(no row by site)", |form| form.name()).to_owned()],
        );
        self.sums("By form", vec![left("form")], rows);
    }

    pub(super) fn ports(&mut self) {
        let dump = self.run.dump;
        let rows = self.rows(
            |group| (group.port, group.dir, group.size),
            |(port, dir, size)| {
                let row = dump.ports.iter().find(|row| row.port == *port && row.name.is_some());
                let name = row.and_then(|row| row.name.as_deref()).unwrap_or_default();
                vec![port.to_string(), dir.to_string(), size.to_string(), name.to_owned()]
            },
        );
        self.sums("By port", ["port", "dir", "size", "name"].map(left).to_vec(), rows);
    }

    pub(super) fn sites(&mut self) {
        let dump = self.run.dump;
        let rows = self.rows(
            |group| group.site,
            |site| match site.and_then(|site| dump.sites.get(site)) {
                Some(site) => {
                    [site_cells(site).to_vec(), vec![site.form.name().to_owned()]].concat()
                }
                None => ["(no row by site)", "", ""].map(str::to_owned).to_vec(),
            },
        );
        self.sums("By site", ["address", "symbol", "form"].map(left).to_vec(), rows);
    }

    pub(super) fn callers(&mut self) {
        let Some(callers) = Callers::of(self.run.dump) else {
            self.page.heading("By caller");
            self.page.lines(&["The run did not record callers (callers=on).".to_owned()]);
            return;
        };
        let mut rows: Vec<Row> = Vec::new();
        for costed in &self.costed {
            for (index, row) in callers.cost(self.run.dump, costed).into_iter().enumerate() {
                let sum = Sum { accesses: row.accesses, price: row.price, saved: row.saved };
                match rows.get_mut(index) {
                    // Every model has the same callers in the same order.
                    Some((_, sums)) => sums.push(sum),
                    None => rows.push((vec![row.caller, row.function], vec![sum])),
                }
            }
        }
        self.sums("By caller", ["caller", "function"].map(left).to_vec(), rows);
    }

    /// The sums of all models by one key.
    fn rows<K: Ord>(
        &self,
        key: impl Fn(&Group) -> K,
        cells: impl Fn(&K) -> Vec<String>,
    ) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for costed in &self.costed {
            for (index, (key, sum)) in costed.by(&key).into_iter().enumerate() {
                match rows.get_mut(index) {
                    Some((_, sums)) => sums.push(sum),
                    None => rows.push((cells(&key), vec![sum])),
                }
            }
        }
        rows
    }

    /// Adds a table of sums: the rows with the largest cost, the others, and all.
    fn sums(&mut self, title: &str, mut columns: Vec<Column>, mut rows: Vec<Row>) {
        let names = columns.len();
        rows.sort_by_key(|(_, sums)| {
            sums.first().map(|sum| Reverse((sum.price.amount, sum.price.exits)))
        });
        let one = self.costed.len() == 1;
        columns.push(right("accesses"));
        for costed in &self.costed {
            let unit = costed.model.unit.of_sums();
            let of = if one { String::new() } else { format!("{} ", costed.model.name) };
            columns.extend([right(format!("{of}exits")), right(format!("{of}{unit}")), right("%")]);
            if one {
                columns.push(right("hypercalls save"));
            }
        }
        let mut totals = vec![Sum::default(); self.costed.len()];
        let mut others = totals.clone();
        let shown = if self.style.all { rows.len() } else { MAX_ROWS.min(rows.len()) };
        for (index, (_, sums)) in rows.iter().enumerate() {
            add(&mut totals, sums);
            if index >= shown {
                add(&mut others, sums);
            }
        }
        let hidden = rows.len() - shown;
        rows.truncate(shown);
        let named = |name: String| {
            let mut cells = vec![String::new(); names];
            cells[0] = name;
            cells
        };
        if hidden > 0 {
            rows.push((named(format!("{} others", number(hidden as u64))), others));
        }
        rows.push((named("all".to_owned()), totals.clone()));
        let rows = rows.into_iter().map(|(mut cells, sums)| {
            cells.push(number(sums.first().map_or(0, |sum| sum.accesses)));
            for ((sum, costed), total) in sums.iter().zip(&self.costed).zip(&totals) {
                let unit = costed.model.unit;
                cells.extend([
                    count(sum.price.exits),
                    sum.price.shown(unit),
                    share(&sum.price, &total.price),
                ]);
                if one {
                    cells.push(sum.saved.shown(unit));
                }
            }
            cells
        });
        let rows = rows.collect();
        self.page.heading(title);
        self.page.table(columns, rows);
    }
}

fn add(sums: &mut [Sum], more: &[Sum]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        sum.accesses += more.accesses;
        sum.price += more.price;
        sum.saved += more.saved;
    }
}
