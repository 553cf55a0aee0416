//! The tables of ports, of sites and of call sites, whose rows link to each other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use maud::Markup;
use pvio_x86::{AccessSize, Direction, Port};

use super::accesses::{ports, sites};
use super::calls::call_sites;
use crate::report::table::{HtmlTable, Link};
use crate::stats::Snapshot;
use crate::stats::text_table::number;

/// The three tables.
pub(super) struct Linked {
    pub ports: Markup,
    pub sites: Markup,
    pub call_sites: Markup,
}

const PORT: &str = "port-";
const SITE: &str = "site-";
const CALL_SITE: &str = "call-site-";

/// The columns that distinguish rows of ports.
type PortKey = (Port, Direction, AccessSize);

/// The accesses of one site to one port.
struct Edge {
    port: PortKey,
    /// The index of the site in its table.
    site: usize,
    accesses: u64,
}

/// Links to the rows that a table shows.
struct Target {
    prefix: &'static str,
    shown: HashSet<usize>,
}

impl Target {
    fn new<const N: usize>(prefix: &'static str, table: &HtmlTable<N>) -> Target {
        Target { prefix, shown: table.indexes().iter().copied().collect() }
    }

    fn link(&self, index: Option<usize>, text: String) -> Link {
        let shown = index.filter(|index| self.shown.contains(index));
        Link { row: shown.map(|index| format!("{}{index}", self.prefix)), text }
    }
}

/// Renders the tables. A dump that has no accesses by site and port has no links.
pub(super) fn linked(dump: &Snapshot) -> Linked {
    let (ports, sites, call_sites) = (ports(dump), sites(dump), call_sites(dump));
    let by_insn: Vec<Edge> = dump
        .accesses
        .iter()
        .map(|row| Edge {
            port: (row.port, row.dir, row.size),
            site: row.site,
            accesses: row.counts.accesses,
        })
        .collect();
    let by_call: Vec<Edge> = dump
        .call_accesses
        .iter()
        .map(|row| Edge {
            port: (row.port, row.dir, row.size),
            site: row.site,
            accesses: row.accesses,
        })
        .collect();
    if by_insn.is_empty() && by_call.is_empty() {
        let (ports, sites) = (ports.render(), sites.render());
        return Linked { ports, sites, call_sites: call_sites.render() };
    }
    let rows = dump.ports.iter().enumerate();
    let numbers: HashMap<PortKey, usize> =
        rows.map(|(index, row)| ((row.port, row.dir, row.size), index)).collect();
    let to_site = Target::new(SITE, &sites);
    let to_call_site = Target::new(CALL_SITE, &call_sites);
    let to_port = Target::new(PORT, &ports);

    let mut of_ports: BTreeMap<usize, Vec<(u64, Link)>> = BTreeMap::new();
    let insns = by_insn.iter().map(|edge| {
        let site = dump.sites.get(edge.site);
        let name = site.map_or("?", |site| site.symbol.as_deref().unwrap_or(&site.pc));
        let text = format!("{name} ({})", number(edge.accesses));
        (edge, to_site.link(Some(edge.site), text))
    });
    let calls = by_call.iter().map(|edge| {
        let site = dump.call_sites.get(edge.site);
        let name = site.map_or("?", |site| site.symbol.as_deref().unwrap_or(&site.pc));
        let text = format!("{name} ({} by hypercall)", number(edge.accesses));
        (edge, to_call_site.link(Some(edge.site), text))
    });
    for (edge, link) in insns.chain(calls) {
        if let Some(&port) = numbers.get(&edge.port) {
            of_ports.entry(port).or_default().push((edge.accesses, link));
        }
    }
    let port_links = |edges: &[Edge]| {
        let mut of_sites: BTreeMap<usize, Vec<(u64, Link)>> = BTreeMap::new();
        for edge in edges {
            let text = format!("{} ({})", edge.port.0, number(edge.accesses));
            let link = to_port.link(numbers.get(&edge.port).copied(), text);
            of_sites.entry(edge.site).or_default().push((edge.accesses, link));
        }
        of_sites
    };
    let (of_sites, of_call_sites) = (port_links(&by_insn), port_links(&by_call));
    Linked {
        ports: ports.with_links(PORT, "Sites", in_order(of_ports)).render(),
        sites: sites.with_links(SITE, "Ports", in_order(of_sites)).render(),
        call_sites: call_sites.with_links(CALL_SITE, "Ports", in_order(of_call_sites)).render(),
    }
}

/// Returns the links of a row by its index, those of the most accesses first.
fn in_order(mut links: BTreeMap<usize, Vec<(u64, Link)>>) -> impl FnMut(usize) -> Vec<Link> {
    move |index| {
        let mut links = links.remove(&index).unwrap_or_default();
        links.sort_by_key(|&(accesses, _)| Reverse(accesses));
        links.into_iter().map(|(_, link)| link).collect()
    }
}
