//! The sources of the names of sites.

use std::collections::BTreeMap;

use crate::schema::Tables;
use crate::text_table::number;

impl Tables {
    /// The number of sites that each source named, the most first.
    ///
    /// `None` if no site has a name.
    pub fn name_sources(&self) -> Option<String> {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for source in self.sites.iter().filter_map(|site| site.named_by.as_deref()) {
            *counts.entry(source).or_default() += 1;
        }
        let named: u64 = counts.values().sum();
        let mut counts: Vec<(&str, u64)> = counts
            .into_iter()
            // A file is named by its path.
            .map(|(source, count)| (source.rsplit('/').next().unwrap_or(source), count))
            .collect();
        counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let without = self.sites.len() as u64 - named;
        if without > 0 {
            counts.push(("without a name", without));
        }
        let parts = counts.iter().enumerate().map(|(index, &(source, count))| {
            let noun = match (index, count) {
                (0, 1) => " site",
                (0, _) => " sites",
                _ => "",
            };
            format!("{source} {}{noun}", number(count))
        });
        (named > 0).then(|| parts.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use crate::test_data::snapshot;

    #[test]
    fn the_source_of_the_most_names_comes_first() {
        let mut dump = snapshot(1);
        let site = dump.tables.sites[0].clone();
        let mut sources = |sources: &[Option<&str>]| {
            let row = |source: &Option<&str>| {
                let mut site = site.clone();
                site.named_by = source.map(str::to_owned);
                site
            };
            dump.tables.sites = sources.iter().map(row).collect();
            dump.tables.name_sources()
        };
        let kernel = Some("guest kernel");
        assert_eq!(sources(&[None, None]), None);
        assert_eq!(sources(&[kernel]).unwrap(), "guest kernel 1 site");
        assert_eq!(
            sources(&[Some("/a/vmlinux"), kernel, None, kernel]).unwrap(),
            "guest kernel 2 sites, vmlinux 1, without a name 1"
        );
    }
}
