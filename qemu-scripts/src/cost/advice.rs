//! Which sites to change first: what hypercalls, one exit for each cluster, and strings save at each.

use std::collections::BTreeMap;

use pvio_x86::Port;

use super::clusters::{Clusters, SiteKey, saved_by_cluster, saved_by_rep};
use super::price::{Costed, Price, Sum};
use crate::stats::Snapshot;

/// A site, and what can be saved there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The index of the site.
    pub site: usize,
    /// The ports that it accesses, with the most accesses first.
    pub ports: Vec<Port>,
    /// What it costs, and what hypercalls save.
    pub sum: Sum,
    /// What clusters save; `None` without a trace.
    pub by_cluster: Option<Price>,
    /// What `rep` saves; `None` without a trace, or if the model's strings exit at each element.
    pub by_rep: Option<Price>,
}

impl Advice {
    /// The way that saves most, and what it saves.
    pub fn best(&self) -> (&'static str, Price) {
        let ways = [
            ("hypercall", Some(self.sum.saved)),
            ("cluster", self.by_cluster),
            ("rep", self.by_rep),
        ];
        let ways = ways.into_iter().filter_map(|(way, price)| Some((way, price?)));
        let best = ways.max_by_key(|(_, price)| self.worth(price));
        best.unwrap_or(("hypercall", self.sum.saved))
    }

    /// The order of savings: by amount, or by exits if the model lacks a figure for the site.
    fn worth(&self, price: &Price) -> (u128, u128) {
        let prices = [Some(self.sum.saved), self.by_cluster, self.by_rep];
        match prices.into_iter().flatten().all(|price| price.amount.is_some()) {
            true => (price.amount.unwrap_or(0), price.exits),
            false => (0, price.exits),
        }
    }
}

/// The sum of what all clusters and loops save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceSavings {
    /// One exit for each cluster.
    pub clusters: Price,
    /// A `rep` for each loop; `None` if the model's strings exit at each element.
    pub strings: Option<Price>,
}

impl TraceSavings {
    /// Adds up what the clusters and loops save under a model.
    pub fn of(clusters: &Clusters, costed: &Costed<'_>) -> TraceSavings {
        let mut savings = TraceSavings::default();
        for (shape, counts) in &clusters.shapes {
            savings.clusters += saved_by_cluster(shape, counts, costed.model).saved;
        }
        for (point, lengths) in &clusters.loops {
            if let Some(saved) = saved_by_rep(point, lengths, costed.model) {
                *savings.strings.get_or_insert_default() += saved;
            }
        }
        savings
    }
}

/// All sites, the ones with the largest saving first.
///
/// Sites with the same saving, or with none that is known, are in the order of their cost.
pub fn advice(dump: &Snapshot, costed: &Costed<'_>, clusters: Option<&Clusters>) -> Vec<Advice> {
    let mut by_cluster: BTreeMap<usize, Price> = BTreeMap::new();
    let mut by_rep: BTreeMap<usize, Price> = BTreeMap::new();
    if let Some(clusters) = clusters {
        let sites: BTreeMap<SiteKey, usize> = (dump.sites.iter().enumerate().rev())
            .filter_map(|(index, row)| Some((SiteKey::of_row(row)?, index)))
            .collect();
        let index = |site: &Option<SiteKey>| sites.get(site.as_ref()?).copied();
        for (shape, counts) in &clusters.shapes {
            let saving = saved_by_cluster(shape, counts, costed.model);
            for (point, saved) in shape.points.iter().zip(saving.by_point) {
                if let Some(index) = index(&point.site) {
                    *by_cluster.entry(index).or_default() += saved;
                }
            }
        }
        for (point, lengths) in &clusters.loops {
            let saved = saved_by_rep(point, lengths, costed.model);
            if let Some((index, saved)) = index(&point.site).zip(saved) {
                *by_rep.entry(index).or_default() += saved;
            }
        }
    }
    let sums = costed.by(|group| group.site);
    let mut advice: Vec<Advice> = sums
        .into_iter()
        .filter_map(|(site, sum)| Some((site?, sum)))
        .map(|(site, sum)| Advice {
            site,
            ports: ports(costed, site),
            sum,
            by_cluster: clusters.map(|_| by_cluster.remove(&site).unwrap_or_default()),
            by_rep: by_rep.remove(&site),
        })
        .collect();
    advice.sort_by_key(|row| {
        let price = row.sum.price;
        std::cmp::Reverse((row.worth(&row.best().1), price.amount, price.exits))
    });
    advice
}

fn ports(costed: &Costed<'_>, site: usize) -> Vec<Port> {
    let groups = costed.groups.iter().filter(|group| group.site == Some(site));
    let mut ports: BTreeMap<Port, u64> = BTreeMap::new();
    groups.for_each(|group| *ports.entry(group.port).or_default() += group.accesses);
    let mut ports: Vec<(Port, u64)> = ports.into_iter().collect();
    ports.sort_by_key(|&(_, accesses)| std::cmp::Reverse(accesses));
    ports.into_iter().map(|(port, _)| port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::clusters::{Kind, Point, Rule, Shape, ShapeCounts};
    use crate::cost::groups::Groups;
    use crate::cost::model::built_in;
    use crate::stats::test_data::snapshot;

    /// A dump of two sites, of which the second accesses its port less often, but in clusters.
    fn two_sites() -> (Snapshot, Clusters) {
        let mut dump = snapshot(1000);
        let mut site = dump.sites[0].clone();
        site.pc = "0x1000".to_owned();
        site.counts.accesses = 400;
        let mut access = dump.accesses[0].clone();
        (access.site, access.counts.accesses) = (1, 400);
        dump.tables.ports[0].qemu += 400;
        dump.tables.sites.push(site.clone());
        dump.tables.accesses.push(access);
        let point = Point {
            site: SiteKey::of_row(&site),
            pc: 0x1000,
            symbol: None,
            form: site.form,
            port: Port(0x3f8),
        };
        let mut clusters = Clusters::new(Rule { near: 1, within: 1, most: 100 });
        let shape = Shape { kind: Kind::Loop, points: vec![point] };
        clusters.shapes.insert(shape, ShapeCounts { times: 4, accesses: vec![400] });
        (dump, clusters)
    }

    #[test]
    fn site_with_the_largest_saving_is_first() {
        let (dump, clusters) = two_sites();
        let groups = Groups::of(&dump);
        for model in built_in() {
            let costed = Costed::new(&groups, &model);
            let rows = advice(&dump, &costed, Some(&clusters));
            let best = rows[0].best();
            // kvm-intel saves 210 cycles of 1,000 accesses, or 1,181 of 396; tdx has no figures, but counts exits.
            assert_eq!((rows[0].site, best.0), (1, "cluster"), "{}", model.name);
            assert_eq!(best.1.exits, 396, "{}", model.name);
            let without = advice(&dump, &costed, None);
            assert_eq!((without[0].site, without[0].by_cluster), (0, None), "{}", model.name);
        }
    }
}
