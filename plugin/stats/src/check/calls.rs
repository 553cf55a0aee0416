//! The tables of call sites, compared with those of hypercalls and ports.

use std::collections::BTreeMap;

use super::{Check, Sum, sum};
use crate::Call;
use crate::schema::{CallCounts, Tables};

impl Check<'_> {
    pub(super) fn call_sites(&mut self, tables: &Tables, one_run: bool, has_ports: bool) {
        let by_call =
            |what: &str, column: fn(&CallCounts) -> u64| tables.by_call_site(what, column);
        let calls = sum(tables.hypercalls.iter().map(|row| row.count));
        self.equal(
            ("hypercalls by call".to_owned(), calls),
            by_call("hypercalls by call site", |counts| counts.calls),
        );
        let bytes = sum(tables.hypercalls.iter().map(|row| row.bytes));
        self.equal(
            ("bytes of hypercalls by call".to_owned(), bytes),
            by_call("bytes of hypercalls by call site", |counts| counts.bytes),
        );
        let accesses = by_call("accesses by call site", |counts| counts.accesses);
        if has_ports {
            let by_port = tables.by_port("hypercall accesses by port", |row| row.hypercall.into());
            self.equal(by_port, accesses.clone());
        }
        let in_rows = sum(tables.call_accesses.iter().map(|row| row.accesses));
        let in_rows = in_rows + u128::from(tables.call_accesses_dropped);
        self.equal(accesses.clone(), ("accesses by call site and port".to_owned(), in_rows));
        self.calls_of_sites(tables);
        self.call_accesses(tables, has_ports);
        self.call_callers(tables, one_run);
        let by_process = tables.processes.iter().map(|row| row.hypercall);
        let by_process = sum(by_process.chain([tables.processes_dropped_hypercall]));
        // Processes may not be counted, and an older pvio did not count their hypercalls.
        if by_process > 0 {
            let by_process = ("hypercall accesses by process".to_owned(), by_process);
            match one_run {
                true => self.equal(accesses, by_process),
                false => self.at_least(accesses, by_process),
            }
        }
    }

    /// The rows of each call have its number of calls, unless some have no row.
    fn calls_of_sites(&mut self, tables: &Tables) {
        let is_whole = tables.call_sites_dropped_counts == CallCounts::default();
        let mut by_call: BTreeMap<Call, u128> = BTreeMap::new();
        for row in &tables.call_sites {
            *by_call.entry(row.call).or_default() += u128::from(row.counts.calls);
        }
        let calls = tables
            .hypercalls
            .iter()
            .map(|row| (row.call, move || format!("calls of {}", row.call), u128::from(row.count)));
        self.each(is_whole, by_call, calls);
    }

    /// Each row belongs to a call site and to a port, whose accesses are those of all its rows.
    fn call_accesses(&mut self, tables: &Tables, has_ports: bool) {
        let is_whole = tables.call_accesses_dropped == 0;
        let mut by_site: BTreeMap<usize, u128> = BTreeMap::new();
        let mut by_port: BTreeMap<_, u128> = BTreeMap::new();
        for row in &tables.call_accesses {
            let accesses = u128::from(row.accesses);
            *by_site.entry(row.site).or_default() += accesses;
            *by_port.entry((row.port, row.dir, row.size)).or_default() += accesses;
        }
        let sites = tables.call_sites.iter().enumerate().map(|(index, row)| {
            let name = move || format!("accesses of {} at {}", row.call, row.pc);
            (index, name, u128::from(row.counts.accesses))
        });
        self.each(is_whole, by_site, sites);
        if has_ports {
            let ports = tables.ports.iter().map(|row| {
                let name = move || format!("hypercall accesses {} port {}", row.dir, row.port);
                ((row.port, row.dir, row.size), name, u128::from(row.hypercall))
            });
            self.each(is_whole, by_port, ports);
        }
    }

    /// Only some of the merged runs may have counted by call chain.
    fn call_callers(&mut self, tables: &Tables, one_run: bool) {
        if tables.call_callers.is_empty() {
            return;
        }
        let with_row = sum(tables.call_sites.iter().map(|row| row.counts.accesses));
        let with_row = ("accesses of call sites".to_owned(), with_row);
        let by_chain = sum(tables.call_callers.iter().map(|row| row.accesses));
        let by_chain = ("hypercall accesses by call chain".to_owned(), by_chain);
        match one_run {
            true => self.equal(with_row, by_chain),
            false => self.at_least(with_row, by_chain),
        }
    }
}

impl Tables {
    pub(super) fn by_call_site(&self, what: &str, column: fn(&CallCounts) -> u64) -> Sum {
        let sites = self.call_sites.iter().map(|row| &row.counts);
        (what.to_owned(), sum(sites.chain([&self.call_sites_dropped_counts]).map(column)))
    }
}
