//! The sites to change first.

use super::{Report, count, list, share, site_cells};
use crate::cost::advice::advice;
use crate::cost::callers::Callers;
use crate::cost::page::{left, right};
use crate::cost::price::Price;

impl Report<'_> {
    /// The sites at which most is saved under one model.
    pub(super) fn first_sites(&mut self, index: usize) {
        let costed = &self.costed[index];
        let unit = costed.model.unit;
        let callers = Callers::of(self.run.dump);
        let mut sites = advice(self.run.dump, costed, self.run.clusters);
        sites.truncate(self.style.top);
        if sites.is_empty() {
            return;
        }
        let mut columns = vec![left("address"), left("symbol")];
        if callers.is_some() {
            columns.push(left("caller"));
        }
        columns.extend([left("form"), left("ports"), left("best by")]);
        columns.extend(["exits", "exits saved", "cost", "%"].map(right));
        columns.push(right("hypercalls save"));
        let has_trace = self.run.clusters.is_some();
        if has_trace {
            columns.extend(["clusters save", "rep saves"].map(right));
        }
        let total = costed.total();
        let rows = sites.iter().map(|row| {
            let site = &self.run.dump.sites[row.site];
            let mut cells = site_cells(site).to_vec();
            if let Some(callers) = &callers {
                cells.push(callers.main_caller(site).unwrap_or("?").to_owned());
            }
            let (way, best) = row.best();
            let saves_nothing = best.amount.unwrap_or(best.exits) == 0;
            let shown = |price: Option<Price>| price.map_or("-".to_owned(), |p| p.shown(unit));
            cells.extend([
                site.form.name().to_owned(),
                list(row.ports.iter().map(ToString::to_string)),
                if saves_nothing { "-" } else { way }.to_owned(),
                count(row.sum.price.exits),
                count(best.exits),
                row.sum.price.shown(unit),
                share(&row.sum.price, &total),
                row.sum.saved.shown(unit),
            ]);
            if has_trace {
                cells.extend([shown(row.by_cluster), shown(row.by_rep)]);
            }
            cells
        });
        let rows = rows.collect();
        let which = match sites.len() {
            1 => "site".to_owned(),
            several => format!("{several} sites"),
        };
        let (model, unit) = (&costed.model.name, unit.of_sums());
        let title = format!("The {which} to change first under {model}, in {unit}");
        self.page.heading(&title);
        self.page.table(columns, rows);
    }
}
