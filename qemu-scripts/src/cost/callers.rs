//! Cost by caller: the functions that called the functions that accessed ports.

use std::collections::BTreeMap;

use pvio_x86::Mode;

use super::amount::apportion;
use super::price::{Costed, Price, Sum};
use crate::stats::{CallerRow, ChainEnd, SiteRow, Snapshot};

/// The accesses of one function on behalf of one caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerCost {
    /// The function that called; `-` if there is none, `?` if it is not known.
    pub caller: String,
    /// The function with the port instruction.
    pub function: String,
    /// Elements moved.
    pub accesses: u64,
    /// Their price. A site's price is shared among its callers in proportion to their accesses.
    pub price: Price,
    /// What hypercalls save.
    pub saved: Price,
}

/// Sites that call chains do not tell apart.
type SiteName = (String, Option<Mode>, String);

fn name_of_site(row: &SiteRow) -> SiteName {
    (row.symbol.as_deref().unwrap_or(&row.pc).to_owned(), row.mode, row.bytes.clone())
}

fn name_of_chain(row: &CallerRow) -> SiteName {
    (row.site().to_owned(), row.mode, row.bytes.clone())
}

/// The function of a symbol with an offset.
pub fn function_of(label: &str) -> &str {
    label.rsplit_once("+0x").map_or(label, |(function, _)| function)
}

/// The function that a chain begins with.
fn caller_of(row: &CallerRow) -> String {
    match (row.frames.first(), row.end) {
        (Some(frame), _) => frame.function().to_owned(),
        (None, ChainEnd::User | ChainEnd::Bottom) => "-".to_owned(),
        (None, _) => "?".to_owned(),
    }
}

/// The accesses of each site name by caller.
pub struct Callers {
    by_site: BTreeMap<SiteName, BTreeMap<String, u64>>,
}

impl Callers {
    /// Adds up the call chains of a dump. `None` if it has none.
    pub fn of(dump: &Snapshot) -> Option<Callers> {
        let mut by_site: BTreeMap<SiteName, BTreeMap<String, u64>> = BTreeMap::new();
        for row in &dump.callers {
            let callers = by_site.entry(name_of_chain(row)).or_default();
            *callers.entry(caller_of(row)).or_default() += row.accesses;
        }
        (!by_site.is_empty()).then_some(Callers { by_site })
    }

    /// The caller of a site with the most accesses.
    pub fn main_caller(&self, site: &SiteRow) -> Option<&str> {
        let callers = self.by_site.get(&name_of_site(site))?;
        callers.iter().max_by_key(|(_, accesses)| **accesses).map(|(caller, _)| &**caller)
    }

    /// The cost by caller and function.
    pub fn cost(&self, dump: &Snapshot, costed: &Costed<'_>) -> Vec<CallerCost> {
        let mut by_name: BTreeMap<Option<SiteName>, Sum> = BTreeMap::new();
        for (site, sum) in costed.by(|group| group.site) {
            let name = site.and_then(|site| dump.sites.get(site)).map(name_of_site);
            let known = by_name.entry(name).or_default();
            known.accesses += sum.accesses;
            known.price += sum.price;
            known.saved += sum.saved;
        }
        let mut rows: BTreeMap<(String, String), Sum> = BTreeMap::new();
        for (name, sum) in by_name {
            let label = name.as_ref().map_or("?", |(label, ..)| label);
            let function = function_of(label).to_owned();
            let callers = name.as_ref().and_then(|name| self.by_site.get(name));
            for (caller, part) in share(&sum, callers) {
                let row = rows.entry((caller, function.clone())).or_default();
                row.accesses += part.accesses;
                row.price += part.price;
                row.saved += part.saved;
            }
        }
        let row = |((caller, function), sum): ((String, String), Sum)| CallerCost {
            caller,
            function,
            accesses: sum.accesses,
            price: sum.price,
            saved: sum.saved,
        };
        rows.into_iter().map(row).collect()
    }
}

/// Shares a sum among callers. Accesses without a chain have the caller `?`.
fn share(sum: &Sum, callers: Option<&BTreeMap<String, u64>>) -> Vec<(String, Sum)> {
    let mut weights: BTreeMap<String, u64> = callers.cloned().unwrap_or_default();
    let known: u64 = weights.values().sum();
    let rest = sum.accesses.saturating_sub(known);
    if rest > 0 || weights.is_empty() {
        *weights.entry("?".to_owned()).or_default() += rest.max(1);
    }
    let list: Vec<u64> = weights.values().copied().collect();
    let accesses = apportion(sum.accesses.into(), &list);
    let [price, saved] = [sum.price, sum.saved].map(|price| {
        let exits = apportion(price.exits, &list);
        let amounts = price.amount.map(|amount| apportion(amount, &list));
        let part = |index: usize| Price {
            exits: exits[index],
            amount: amounts.as_ref().map(|amounts| amounts[index]),
            bound: price.bound,
        };
        (0..list.len()).map(part).collect::<Vec<_>>()
    });
    let parts = weights.into_keys().enumerate().map(|(index, caller)| {
        let accesses = accesses[index] as u64;
        (caller, Sum { accesses, price: price[index], saved: saved[index] })
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::groups::Groups;
    use crate::cost::model::built_in;
    use crate::stats::FrameRow;
    use crate::stats::test_data::snapshot;

    #[test]
    fn cost_by_caller_adds_up_to_the_total() {
        let mut dump = snapshot(100);
        let site = dump.sites[0].clone();
        let chain = |caller: Option<&str>, accesses| CallerRow {
            pc: site.pc.clone(),
            mode: site.mode,
            bytes: site.bytes.clone(),
            symbol: site.symbol.clone(),
            frames: caller
                .map(|symbol| FrameRow {
                    pc: "0x1000".to_owned(),
                    symbol: Some(format!("{symbol}+0x5/0x10")),
                    interrupted: false,
                })
                .into_iter()
                .collect(),
            end: ChainEnd::Bottom,
            accesses,
        };
        dump.tables.callers =
            vec![chain(Some("serial_putc"), 61), chain(Some("serial_init"), 8), chain(None, 30)];
        let groups = Groups::of(&dump);
        let model = &built_in()[0];
        let costed = Costed::new(&groups, model);
        let callers = Callers::of(&dump).unwrap();
        assert_eq!(callers.main_caller(&site), Some("serial_putc"));
        let rows = callers.cost(&dump, &costed);
        let shown: Vec<_> =
            rows.iter().map(|row| (&*row.caller, &*row.function, row.accesses)).collect();
        let function = "io_serial_out";
        let expected = [
            ("-", function, 30),
            ("?", function, 1),
            ("serial_init", function, 8),
            ("serial_putc", function, 61),
        ];
        assert_eq!(shown, expected);
        let mut total = Price::default();
        rows.iter().for_each(|row| total += row.price);
        assert_eq!(total, costed.total());
        assert!(Callers::of(&snapshot(1)).is_none());
    }
}
