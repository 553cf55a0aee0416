//! Tables of clusters and loops.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{MAX_ROWS, Report, count, list};
use crate::cost::clusters::{Point, saved_by_cluster, saved_by_rep};
use crate::cost::page::{left, right};
use crate::cost::price::{Costed, Price};
use crate::stats::text_table::{number, percent};

impl Report<'_> {
    pub(super) fn clusters(&mut self) {
        let Some(clusters) = self.run.clusters else { return };
        let mut shapes: Vec<_> = clusters.shapes.iter().collect();
        shapes.sort_by_key(|(_, counts)| Reverse(counts.saved_exits()));
        self.page.heading("Clusters: accesses that one exit could serve");
        let mut columns = vec![left("what"), left("sites"), left("ports")];
        columns.extend(["times", "accesses", "exits saved", "%"].map(right));
        let headings = self.costed.iter().map(|costed| {
            right(format!("{} saves, {}", costed.model.name, costed.model.unit.of_sums()))
        });
        columns.extend(headings);
        let shown = if self.style.all { shapes.len() } else { MAX_ROWS.min(shapes.len()) };
        let mut rows: Vec<Vec<String>> = Vec::new();
        let price_cells = |prices: &[Price]| -> Vec<String> {
            let cells = prices.iter().zip(&self.costed);
            cells.map(|(price, costed)| price.shown(costed.model.unit)).collect()
        };
        let mut others = (0, 0, 0, vec![Price::default(); self.costed.len()]);
        let mut total = others.clone();
        for (index, (shape, counts)) in shapes.iter().enumerate() {
            let saving = |costed: &Costed<'_>| saved_by_cluster(shape, counts, costed.model).saved;
            let prices: Vec<Price> = self.costed.iter().map(saving).collect();
            for sum in [&mut total, &mut others].into_iter().take(1 + usize::from(index >= shown)) {
                sum.0 += counts.times;
                sum.1 += counts.all();
                sum.2 += counts.saved_exits();
                sum.3.iter_mut().zip(&prices).for_each(|(sum, price)| *sum += *price);
            }
            if index < shown {
                let mut cells = vec![
                    shape.kind.name().to_owned(),
                    list(shape.points.iter().map(|point| point.label())),
                    list(shape.points.iter().map(|point| point.port.to_string())),
                    number(counts.times),
                    number(counts.all()),
                    number(counts.saved_exits()),
                    percent(counts.saved_exits(), clusters.accesses),
                ];
                cells.extend(price_cells(&prices));
                rows.push(cells);
            }
        }
        let mut sum_row =
            |name: String, (times, accesses, saved, prices): &(u64, u64, u64, Vec<Price>)| {
                let mut cells = vec![name, String::new(), String::new()];
                cells.extend([*times, *accesses, *saved].map(number));
                cells.push(percent(*saved, clusters.accesses));
                cells.extend(price_cells(prices));
                rows.push(cells);
            };
        if shapes.len() > shown {
            let name = format!("{} others", number((shapes.len() - shown) as u64));
            sum_row(name, &others);
        }
        sum_row("all".to_owned(), &total);
        self.page.table(columns, rows);
        self.page.lines(&[format!(
            "{} accesses by in and out: {} clusters and {} single accesses are {} exits.",
            number(clusters.accesses),
            number(clusters.times()),
            number(clusters.singles),
            number(clusters.exits_left()),
        )]);
    }

    /// Loops that a string instruction could replace.
    pub(super) fn loops(&mut self) {
        let Some(clusters) = self.run.clusters else { return };
        let useful = |costed: &Costed<'_>| costed.model.strings;
        let is_useful =
            |point: &Point| self.costed.iter().any(|costed| useful(costed).moves_many(point.dir()));
        let mut loops: Vec<_> =
            clusters.loops.iter().filter(|(point, _)| is_useful(point)).collect();
        if loops.is_empty() {
            return;
        }
        let accesses = |lengths: &BTreeMap<u64, u64>| -> u64 {
            lengths.iter().map(|(length, times)| length * times).sum()
        };
        loops.sort_by_key(|(_, lengths)| Reverse(accesses(lengths)));
        if !self.style.all {
            loops.truncate(MAX_ROWS);
        }
        let mut columns = vec![left("site"), left("port"), left("form")];
        columns.extend(["loops", "accesses"].map(right));
        for costed in &self.costed {
            columns.push(right(format!("{} exits saved", costed.model.name)));
            columns.push(right(format!("saves, {}", costed.model.unit.of_sums())));
        }
        let rows = loops.iter().map(|(point, lengths)| {
            let mut cells =
                vec![point.label(), point.port.to_string(), point.form.name().to_owned()];
            cells.extend([lengths.values().sum(), accesses(lengths)].map(number));
            for costed in &self.costed {
                match saved_by_rep(point, lengths, costed.model) {
                    Some(saved) => {
                        cells.extend([count(saved.exits), saved.shown(costed.model.unit)]);
                    }
                    None => cells.extend(["-", "-"].map(str::to_owned)),
                }
            }
            cells
        });
        let rows = rows.collect();
        self.page.heading("Loops of in or out that a rep could replace");
        self.page.table(columns, rows);
    }
}
