//! Finds tables of one dump that should add up to the same total, but do not.

mod calls;

use std::collections::BTreeMap;
use std::fmt;

use crate::Call;
use crate::schema::{
    AccessCounts, AccessRow, CallCounts, Counts, HypercallRow, Instructions, PortRow, Snapshot,
    Tables, VcpuRow,
};
use crate::totals::FormCounts;

/// Two sums that should be equal, or of which the first should be the larger one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discrepancy {
    /// The whole dump, or one window.
    pub scope: Scope,
    /// The name of the first sum, such as `accesses by form`.
    pub one: String,
    /// The first sum.
    pub one_count: u128,
    /// The name of the second sum, such as `accesses by port`.
    pub other: String,
    /// The second sum.
    pub other_count: u128,
}

/// The part of a dump that a table belongs to: the whole, or a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole dump.
    Totals,
    /// The window with this name.
    Window(String),
}

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Scope::Window(name) = &self.scope {
            write!(f, "window {name:?}: ")?;
        }
        let Discrepancy { one, one_count, other, other_count, .. } = self;
        write!(f, "the numbers do not add up: {one_count} {one}, but {other_count} {other}")
    }
}

impl Snapshot {
    /// Lists the tables that should add up to the same totals and do not.
    ///
    /// A dump of a machine that has ended has none unless it was edited or damaged, with one
    /// exception: a guest that resets the statistics within the handler of a faulting instruction.
    /// While other vCPUs run, a snapshot or a window may have one part of an instruction's counts and
    /// not the other, so that these are not compared.
    pub fn discrepancies(&self) -> Vec<Discrepancy> {
        let mut found = Vec::new();
        // The vCPUs of merged runs are not known if one run omitted them.
        let one_vcpu = self.vcpus.len() <= 1 && (self.runs == 1 || self.vcpus_omitted.is_none());
        let has_vcpus = self.vcpus_omitted.is_none();
        let one_run = self.runs == 1;
        if self.ended != "running" || one_vcpu {
            let mut check = Check { scope: Scope::Totals, found: &mut found };
            check.tables(self, one_run, has_vcpus, true);
            check.values(self, one_run);
            let decided = self.forms.iter().map(|row| row.form.name());
            let undecided = self.forms_undecided.iter().map(|row| row.form.name());
            for (form, row) in decided.chain(undecided).zip(self.form_counts()) {
                let ended = [row.executions, row.unverified].into_iter();
                let ended = ended.chain(row.faults).chain(row.exits);
                let attempts = format!("attempts at {form}");
                let ended = (format!("ends of {form}"), sum(ended));
                check.at_least((attempts, row.attempts.into()), ended);
            }
        }
        for window in self.windows.iter().filter(|_| one_vcpu) {
            let mut check = Check { scope: Scope::Window(window.name.clone()), found: &mut found };
            check.tables(window, one_run, has_vcpus, !window.rows_dropped);
        }
        found
    }
}

type Sum = (String, u128);

struct Check<'a> {
    scope: Scope,
    found: &'a mut Vec<Discrepancy>,
}

impl Check<'_> {
    fn equal(&mut self, one: Sum, other: Sum) {
        self.require(one.1 == other.1, one, other);
    }

    fn at_least(&mut self, one: Sum, other: Sum) {
        self.require(one.1 >= other.1, one, other);
    }

    fn require(&mut self, holds: bool, (one, one_count): Sum, (other, other_count): Sum) {
        if !holds {
            let scope = self.scope.clone();
            self.found.push(Discrepancy { scope, one, one_count, other, other_count });
        }
    }

    fn tables(&mut self, tables: &Tables, one_run: bool, has_vcpus: bool, has_ports: bool) {
        let executions = tables.by_form("executions by form", |row| row.executions);
        let accesses = tables.by_form("accesses by form", |row| row.accesses);
        let unverified = tables.by_form("unverified by form", |row| row.unverified);
        let calls = sum(tables.hypercalls.iter().map(|row| row.count));
        let calls = ("hypercalls by call".to_owned(), calls);
        self.equal(
            executions.clone(),
            tables.by_site("executions by site", |counts| counts.executions),
        );
        self.equal(accesses.clone(), tables.by_site("accesses by site", |counts| counts.accesses));
        self.equal(unverified, tables.by_site("unverified by site", |counts| counts.unverified));
        // Only some of the merged runs may have counted by call chain.
        if !tables.callers.is_empty() {
            let with_row = sum(tables.sites.iter().map(|row| row.counts.accesses));
            let with_row = ("accesses of sites".to_owned(), with_row);
            match one_run {
                true => self.equal(with_row, tables.by_caller("accesses by call chain")),
                false => self.at_least(with_row, tables.by_caller("accesses by call chain")),
            }
        }
        // The same for processes.
        let dropped = tables.processes_dropped_counts;
        if !tables.processes.is_empty() || dropped != Counts::default() {
            for (name, column) in COUNTS {
                let rows = tables.processes.iter().map(|row| column(&row.counts));
                let by_process = sum(rows.chain([column(&dropped)]));
                let by_process = (format!("{name} by process"), by_process);
                let by_site = tables.by_site(&format!("{name} by site"), column);
                match one_run {
                    true => self.equal(by_site, by_process),
                    false => self.at_least(by_site, by_process),
                }
            }
        }
        if has_ports {
            let moved = tables.hypercalls.iter().map(HypercallRow::elements);
            let by_call = ("elements moved by hypercalls".to_owned(), sum(moved));
            let by_port = tables.by_port("hypercall accesses by port", |row| row.hypercall.into());
            self.equal(accesses.clone(), tables.by_port("accesses by port", by_instruction));
            // A call of a newer version may access ports, at a size that is not known here.
            if !tables.hypercalls.iter().any(|row| row.call == Call::Unknown && row.bytes > 0) {
                self.equal(by_call, by_port);
            }
        }
        self.accesses(tables, accesses.clone(), has_ports);
        self.call_sites(tables, one_run, has_ports);
        if has_vcpus {
            self.equal(executions, tables.by_vcpu("executions by vCPU", |row| row.executions));
            self.equal(accesses, tables.by_vcpu("accesses by vCPU", |row| row.accesses));
            self.equal(calls, tables.by_vcpu("hypercalls by vCPU", |row| row.hypercalls));
        }
        for row in &tables.forms {
            let bytes = u128::from(row.accesses) * u128::from(row.form.width().bytes());
            let by_size = (format!("by accesses of {}", row.form), bytes);
            self.equal((format!("bytes of {}", row.form), row.bytes.into()), by_size);
        }
        for row in &tables.hypercalls {
            let refused = sum([row.declined, row.denied, row.errors]);
            let refused = (format!("of them that failed: {}", row.call), refused);
            self.at_least((format!("calls of {}", row.call), row.count.into()), refused);
        }
    }
}

/// A column of [`Counts`].
type CountColumn = fn(&Counts) -> u64;

/// The columns of [`Counts`], with their names.
const COUNTS: [(&str, CountColumn); 3] = [
    ("executions", |counts| counts.executions),
    ("accesses", |counts| counts.accesses),
    ("unverified", |counts| counts.unverified),
];
/// Accesses by site and port.
impl Check<'_> {
    /// Each row belongs to a site and to a port, whose counts are those of all its rows. If some accesses
    /// have no row, the counts are no less.
    fn accesses(&mut self, tables: &Tables, by_form: Sum, has_ports: bool) {
        let in_rows = |column: fn(&AccessCounts) -> u64| {
            sum(tables.accesses.iter().map(|row| column(&row.counts)))
        };
        let dropped = tables.accesses_dropped;
        let all = in_rows(|counts| counts.accesses) + u128::from(dropped.accesses);
        self.equal(by_form, ("accesses by site and port".to_owned(), all));
        let is_whole = dropped == AccessCounts::default();
        let by_site = sums(&tables.accesses, |row| row.site, |counts| counts.accesses);
        let sites = tables.sites.iter().enumerate();
        self.each(
            is_whole,
            by_site,
            sites.map(|(index, row)| {
                (
                    index,
                    || format!("accesses of the site at {}", row.pc),
                    row.counts.accesses.into(),
                )
            }),
        );
        if !has_ports {
            return;
        }
        for (what, column, of_port) in [
            (
                "accesses",
                (|counts| counts.accesses) as fn(&AccessCounts) -> u64,
                by_instruction as fn(&PortRow) -> u128,
            ),
            ("unverified accesses", |counts| counts.unverified, |row| row.unverified.into()),
        ] {
            let key = |row: &AccessRow| (row.port, row.dir, row.size);
            let by_port = sums(&tables.accesses, key, column);
            self.each(
                is_whole,
                by_port,
                tables.ports.iter().map(|row| {
                    let name =
                        move || format!("{what} {} port {}, {} bytes", row.dir, row.port, row.size);
                    ((row.port, row.dir, row.size), name, of_port(row))
                }),
            );
        }
    }

    /// The values at a port add up to its accesses, unless some did not fit, or some of the merged runs
    /// did not count values.
    fn values(&mut self, dump: &Snapshot, one_run: bool) {
        let is_whole = one_run && dump.values_dropped == AccessCounts::default();
        let both = |counts: &AccessCounts| sum([counts.accesses, counts.unverified]);
        let mut by_port = BTreeMap::new();
        for row in &dump.values {
            *by_port.entry((row.port, row.dir, row.size)).or_insert(0) += both(&row.counts);
        }
        let ports = dump.ports.iter().filter(|row| {
            let place = (row.port, row.dir, row.size);
            by_port.contains_key(&place)
        });
        let ports: Vec<_> = ports
            .map(|row| {
                let name = move || format!("accesses {} port {}, as values", row.dir, row.port);
                let count = u128::from(row.accesses()) + u128::from(row.unverified);
                ((row.port, row.dir, row.size), name, count)
            })
            .collect();
        self.each(is_whole, by_port, ports.into_iter());
    }

    /// Compares counts with sums of rows of `accesses` by the same key. The first that differs is enough.
    fn each<K: Ord, N: Fn() -> String>(
        &mut self,
        is_whole: bool,
        mut sums: BTreeMap<K, u128>,
        counts: impl Iterator<Item = (K, N, u128)>,
    ) {
        let before = self.found.len();
        for (key, name, count) in counts {
            let by_rows = sums.remove(&key).unwrap_or(0);
            let holds = if is_whole { count == by_rows } else { count >= by_rows };
            if !holds && self.found.len() == before {
                self.require(false, (name(), count), ("in its rows".to_owned(), by_rows));
            }
        }
    }
}

/// Sums of a column by key.
fn sums<K: Ord>(
    rows: &[AccessRow],
    key: impl Fn(&AccessRow) -> K,
    column: fn(&AccessCounts) -> u64,
) -> BTreeMap<K, u128> {
    let mut sums = BTreeMap::new();
    for row in rows {
        *sums.entry(key(row)).or_insert(0) += u128::from(column(&row.counts));
    }
    sums
}

impl Tables {
    fn by_form(&self, what: &str, column: fn(&FormCounts) -> u64) -> Sum {
        (what.to_owned(), sum(self.form_counts().map(|counts| column(&counts))))
    }

    fn by_site(&self, what: &str, column: fn(&Counts) -> u64) -> Sum {
        let sites = self.sites.iter().map(|row| &row.counts);
        (what.to_owned(), sum(sites.chain([&self.sites_dropped_counts]).map(column)))
    }

    fn by_port(&self, what: &str, column: impl Fn(&PortRow) -> u128) -> Sum {
        (what.to_owned(), self.ports.iter().map(column).sum())
    }

    fn by_caller(&self, what: &str) -> Sum {
        (what.to_owned(), sum(self.callers.iter().map(|row| row.accesses)))
    }

    fn by_vcpu(&self, what: &str, column: fn(&VcpuRow) -> u64) -> Sum {
        (what.to_owned(), sum(self.vcpus.iter().map(column)))
    }
}

/// Returns true if a column of values has a sum that does not fit in 64 bits.
pub(crate) fn overflowing_values<'a>(
    counts: impl Iterator<Item = &'a AccessCounts> + Clone,
) -> bool {
    let columns: [fn(&AccessCounts) -> u64; 2] = [|row| row.accesses, |row| row.unverified];
    columns.into_iter().any(|column| u64::try_from(sum(counts.clone().map(column))).is_err())
}

/// The first table with a column whose sum over all parts does not fit in 64 bits.
pub(crate) fn overflowing(parts: &[&Tables]) -> Option<&'static str> {
    let forms: [fn(&FormCounts) -> u64; 7] = [
        |row| row.attempts,
        |row| row.executions,
        |row| row.accesses,
        |row| row.bytes.unwrap_or(0),
        |row| row.faults.unwrap_or(0),
        |row| row.exits.unwrap_or(0),
        |row| row.unverified,
    ];
    let counts: [fn(&Counts) -> u64; 3] =
        [|counts| counts.executions, |counts| counts.accesses, |counts| counts.unverified];
    let vcpus: [fn(&VcpuRow) -> u64; 4] = [
        |row| row.executions,
        |row| row.accesses,
        |row| row.hypercalls,
        |row| row.instructions.counted().unwrap_or(0),
    ];
    let calls: [fn(&HypercallRow) -> u64; 5] =
        [|row| row.count, |row| row.bytes, |row| row.declined, |row| row.denied, |row| row.errors];
    let of_port = |row: &PortRow| {
        by_instruction(row) + u128::from(row.hypercall) + u128::from(row.unverified)
    };
    let fits = |sum: &dyn Fn(&Tables) -> u128| {
        u64::try_from(parts.iter().map(|part| sum(part)).sum::<u128>()).is_ok()
    };
    let accesses: [fn(&AccessCounts) -> u64; 2] =
        [|counts| counts.accesses, |counts| counts.unverified];
    let call_counts: [fn(&CallCounts) -> u64; 3] =
        [|counts| counts.calls, |counts| counts.accesses, |counts| counts.bytes];
    let instructions = |row: &Instructions| u128::from(row.counted().unwrap_or(0));
    let sections =
        |part: &Tables| part.sections.iter().map(|row| instructions(&row.instructions)).sum();
    let tables = [
        ("forms", forms.iter().all(|&column| fits(&|part| part.by_form("", column).1))),
        ("sites", counts.iter().all(|&column| fits(&|part| part.by_site("", column).1))),
        (
            "accesses",
            accesses.iter().all(|&column| {
                fits(&|part| {
                    let rows = part.accesses.iter().map(|row| &row.counts);
                    sum(rows.chain([&part.accesses_dropped]).map(column))
                })
            }),
        ),
        ("ports", fits(&|part| part.by_port("", of_port).1)),
        ("vcpus", vcpus.iter().all(|&column| fits(&|part| part.by_vcpu("", column).1))),
        (
            "hypercalls",
            calls.iter().all(|&column| fits(&|part| sum(part.hypercalls.iter().map(column)))),
        ),
        ("callers", fits(&|part| part.by_caller("").1)),
        (
            "call_sites",
            call_counts.iter().all(|&column| fits(&|part| part.by_call_site("", column).1)),
        ),
        (
            "call_accesses",
            fits(&|part| {
                let rows = part.call_accesses.iter().map(|row| row.accesses);
                sum(rows.chain([part.call_accesses_dropped]))
            }),
        ),
        ("call_callers", fits(&|part| sum(part.call_callers.iter().map(|row| row.accesses)))),
        (
            "processes",
            fits(&|part| {
                let rows = part.processes.iter().map(|row| row.hypercall);
                sum(rows.chain([part.processes_dropped_hypercall]))
            }),
        ),
        (
            "processes",
            COUNTS.iter().all(|(_, column)| {
                let dropped = |part: &Tables| column(&part.processes_dropped_counts);
                fits(&|part| {
                    sum(part.processes.iter().map(|row| column(&row.counts)).chain([dropped(part)]))
                })
            }),
        ),
        ("instructions", fits(&|part| instructions(&part.instructions))),
        ("sections", fits(&sections)),
    ];
    tables.into_iter().find(|(_, fits)| !fits).map(|(name, _)| name)
}

fn by_instruction(row: &PortRow) -> u128 {
    u128::from(row.device) + u128::from(row.qemu)
}

fn sum(counts: impl IntoIterator<Item = u64>) -> u128 {
    counts.into_iter().map(u128::from).sum()
}
