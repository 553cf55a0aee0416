//! Rows of tables: what makes them the same row, and how they are added up.

use std::collections::{BTreeMap, BTreeSet};

use pvio_x86::{Direction, Mode, Port, PortForm, Width};

use crate::Call;
use crate::schema::{
    AccessCounts, AccessRow, CallerRow, ChainEnd, Counts, FormRow, FrameRow, HypercallRow,
    Instructions, PortRow, SectionRow, SiteRow, VcpuRow, parse_address,
};

/// A row of a table: what it is about, and counts.
pub(crate) trait Keyed: Clone {
    /// The identity of a row; the table is sorted by it.
    type Key<'a>: Ord
    where
        Self: 'a;

    fn key(&self) -> Self::Key<'_>;

    /// Adds the counts of another row with the same key.
    ///
    /// # Panics
    ///
    /// In a build with overflow checks, if a sum does not fit in 64 bits.
    fn add(&mut self, other: &Self);
}

/// Makes one row of all rows with the same key, in the order of the keys.
pub(crate) fn add_up<'a, R: Keyed + 'a>(rows: impl Iterator<Item = &'a R>) -> Vec<R> {
    let mut sums: BTreeMap<R::Key<'a>, R> = BTreeMap::new();
    for row in rows {
        sums.entry(row.key()).and_modify(|sum| sum.add(row)).or_insert_with(|| row.clone());
    }
    sums.into_values().collect()
}

impl Keyed for VcpuRow {
    type Key<'a> = u32;

    fn key(&self) -> u32 {
        self.vcpu
    }

    fn add(&mut self, other: &VcpuRow) {
        self.executions += other.executions;
        self.accesses += other.accesses;
        self.hypercalls += other.hypercalls;
        self.instructions = self.instructions.plus(other.instructions);
    }
}

impl Keyed for FormRow {
    type Key<'a> = PortForm;

    fn key(&self) -> PortForm {
        self.form
    }

    fn add(&mut self, other: &FormRow) {
        self.attempts += other.attempts;
        self.executions += other.executions;
        self.accesses += other.accesses;
        self.bytes += other.bytes;
        self.faults = plus(self.faults, other.faults);
        self.exits = plus(self.exits, other.exits);
        self.unverified += other.unverified;
    }
}

impl Keyed for PortRow {
    type Key<'a> = (Port, Direction, Width);

    fn key(&self) -> Self::Key<'_> {
        (self.port, self.dir, self.size)
    }

    fn add(&mut self, other: &PortRow) {
        let names = [self.name.as_deref(), other.name.as_deref()];
        self.name = match names {
            [None, None] => None,
            names => Some(union(names.into_iter().flatten(), ", ").into()),
        };
        self.served = match (self.served, other.served) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        };
        // The order of accesses in several runs is not known.
        self.first = None;
        self.device += other.device;
        self.qemu += other.qemu;
        self.hypercall += other.hypercall;
        self.unverified += other.unverified;
    }
}

impl Keyed for SiteRow {
    type Key<'a> = (Option<u64>, Option<Mode>, &'a str, Option<&'a str>, PortForm, [&'a str; 2]);

    fn key(&self) -> Self::Key<'_> {
        let texts = [&*self.insn, &*self.pc];
        (self.address(), self.mode, &self.bytes, self.symbol.as_deref(), self.form, texts)
    }

    fn add(&mut self, other: &SiteRow) {
        self.counts.add(&other.counts);
    }
}

impl Keyed for AccessRow {
    type Key<'a> = (usize, Port, Direction, Width);

    fn key(&self) -> Self::Key<'_> {
        (self.site, self.port, self.dir, self.size)
    }

    fn add(&mut self, other: &AccessRow) {
        self.counts.add(&other.counts);
    }
}

impl CallerRow {
    /// What the site is called: its symbol, or else its address.
    pub fn site(&self) -> &str {
        self.symbol.as_deref().unwrap_or(&self.pc)
    }
}

impl FrameRow {
    /// What the caller is called: its symbol, or else its address.
    pub fn name(&self) -> &str {
        self.symbol.as_deref().unwrap_or(&self.pc)
    }
}

impl Keyed for CallerRow {
    type Key<'a> = (&'a str, Option<Mode>, &'a str, Vec<(&'a str, bool)>, ChainEnd);

    /// By symbols, so that chains of a kernel that has moved are the same.
    fn key(&self) -> Self::Key<'_> {
        let frames = self.frames.iter().map(|frame| (frame.name(), frame.interrupted));
        (self.site(), self.mode, &self.bytes, frames.collect(), self.end)
    }

    fn add(&mut self, other: &CallerRow) {
        self.accesses += other.accesses;
    }
}

impl Keyed for HypercallRow {
    type Key<'a> = Call;

    fn key(&self) -> Call {
        self.call
    }

    fn add(&mut self, other: &HypercallRow) {
        self.count += other.count;
        self.bytes += other.bytes;
        self.declined += other.declined;
        self.denied += other.denied;
        self.errors += other.errors;
    }
}

impl Keyed for SectionRow {
    type Key<'a> = (Option<u64>, Option<u64>, &'a str);

    fn key(&self) -> Self::Key<'_> {
        (parse_address(&self.start), parse_address(&self.end), &self.name)
    }

    fn add(&mut self, other: &SectionRow) {
        self.instructions = self.instructions.plus(other.instructions);
    }
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        self.executions += other.executions;
        self.accesses += other.accesses;
        self.unverified += other.unverified;
    }
}

impl AccessCounts {
    pub(crate) fn add(&mut self, other: &AccessCounts) {
        self.accesses += other.accesses;
        self.unverified += other.unverified;
    }
}

impl Instructions {
    pub(crate) fn plus(self, other: Instructions) -> Instructions {
        Instructions {
            instructions: plus(self.instructions, other.instructions),
            instructions_unverified: plus(
                self.instructions_unverified,
                other.instructions_unverified,
            ),
        }
    }
}

fn plus(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.zip(other).map(|(one, other)| one + other)
}

/// Joins the different values. Those that were joined before are taken apart first.
pub(crate) fn union<'a>(values: impl IntoIterator<Item = &'a str>, separator: &str) -> String {
    let values: BTreeSet<&str> =
        values.into_iter().flat_map(|value| value.split(separator)).collect();
    values.into_iter().collect::<Vec<_>>().join(separator)
}
