//! Rows of tables: their keys, and their addition.

use std::collections::{BTreeMap, BTreeSet};

use pvio_x86::{AccessSize, Direction, InsnForm, Mode, Port, PortForm};

use crate::Call;
use crate::schema::{
    AccessCounts, AccessRow, CallAccessRow, CallAt, CallCallerRow, CallCounts, CallSiteRow,
    CallerRow, ChainEnd, Counts, FormRow, FrameRow, HypercallRow, Instructions, PortRow,
    ProcessRow, SectionRow, SiteRow, UndecidedFormRow, ValueRow, VcpuRow, parse_address,
};

/// A row of a table: a key and counts.
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

impl Keyed for UndecidedFormRow {
    type Key<'a> = InsnForm;

    fn key(&self) -> InsnForm {
        self.form
    }

    fn add(&mut self, other: &UndecidedFormRow) {
        self.attempts += other.attempts;
        self.executions += other.executions;
        self.accesses += other.accesses;
        self.faults = plus(self.faults, other.faults);
        self.exits = plus(self.exits, other.exits);
        self.unverified += other.unverified;
    }
}

impl Keyed for PortRow {
    type Key<'a> = (Port, Direction, AccessSize);

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

/// The position of a site: in a file, wherever that is mapped, or at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PlaceKey<'a> {
    File(&'a str, Option<u64>),
    Address(Option<u64>),
}

impl SiteRow {
    pub(crate) fn place_key(&self) -> PlaceKey<'_> {
        match &self.file {
            Some(file) => PlaceKey::File(file, self.offset.as_deref().and_then(parse_address)),
            None => PlaceKey::Address(self.address()),
        }
    }
}

impl Keyed for SiteRow {
    type Key<'a> = (PlaceKey<'a>, Option<Mode>, &'a str, Option<&'a str>, InsnForm, [&'a str; 2]);

    fn key(&self) -> Self::Key<'_> {
        let place = self.place_key();
        let pc = if matches!(place, PlaceKey::File(..)) { "" } else { &*self.pc };
        (place, self.mode, &self.bytes, self.symbol.as_deref(), self.form, [&*self.insn, pc])
    }

    fn add(&mut self, other: &SiteRow) {
        // Code in a file has the lowest of its addresses, so that the order of dumps does not matter.
        if self.file.is_some() && other.address() < self.address() {
            self.pc.clone_from(&other.pc);
        }
        if self.source != other.source {
            self.source = None;
        }
        self.privilege = self.privilege.zip(other.privilege).map(|(one, another)| one.and(another));
        self.counts.add(&other.counts);
    }
}

impl Keyed for ProcessRow {
    type Key<'a> = (u32, Option<u32>, Option<&'a str>, Option<u64>, Option<&'a str>);

    fn key(&self) -> Self::Key<'_> {
        let table = self.cr3.as_deref();
        (self.boot, self.pid, self.comm.as_deref(), table.and_then(parse_address), table)
    }

    fn add(&mut self, other: &ProcessRow) {
        self.counts.add(&other.counts);
        self.kernel_accesses += other.kernel_accesses;
        self.hypercall += other.hypercall;
    }
}

impl ProcessRow {
    /// Returns the label of the process: its name, or the address of its page table.
    pub fn name(&self) -> &str {
        self.comm.as_deref().or(self.cr3.as_deref()).unwrap_or("unpaged")
    }
}

impl Keyed for AccessRow {
    type Key<'a> = (usize, Port, Direction, AccessSize);

    fn key(&self) -> Self::Key<'_> {
        (self.site, self.port, self.dir, self.size)
    }

    fn add(&mut self, other: &AccessRow) {
        self.counts.add(&other.counts);
    }
}

impl Keyed for ValueRow {
    type Key<'a> = (Port, Direction, AccessSize, Option<u32>);

    fn key(&self) -> Self::Key<'_> {
        (self.port, self.dir, self.size, self.value)
    }

    fn add(&mut self, other: &ValueRow) {
        // Times of several runs do not compare.
        (self.first, self.last) = (None, None);
        self.counts.add(&other.counts);
    }
}

impl CallerRow {
    /// Returns the label of the site: its symbol, or else its address.
    pub fn site(&self) -> &str {
        self.symbol.as_deref().unwrap_or(&self.pc)
    }

    /// The site's function, without the offset in it and the module, or its address.
    pub fn function(&self) -> &str {
        function_of(self.site())
    }
}

impl FrameRow {
    /// Returns the label of the caller: its symbol, or else its address.
    pub fn name(&self) -> &str {
        self.symbol.as_deref().unwrap_or(&self.pc)
    }

    /// The function, without the offset in it and the module.
    pub fn function(&self) -> &str {
        function_of(self.name())
    }
}

/// A symbol without the offset, or an address.
fn function_of(name: &str) -> &str {
    name.rsplit_once("+0x").map_or(name, |(function, _)| function)
}

impl Keyed for CallerRow {
    type Key<'a> = (&'a str, Option<Mode>, &'a str, Vec<(&'a str, bool)>, ChainEnd);

    /// Uses symbols, so that the chains of a kernel stay equal when it is loaded elsewhere.
    fn key(&self) -> Self::Key<'_> {
        let frames = self.frames.iter().map(|frame| (frame.name(), frame.interrupted));
        (self.site(), self.mode, &self.bytes, frames.collect(), self.end)
    }

    /// The addresses are those of one row, whatever the order.
    fn add(&mut self, other: &CallerRow) {
        let accesses = self.accesses + other.accesses;
        if (&other.pc, &other.frames) < (&self.pc, &self.frames) {
            *self = other.clone();
        }
        self.accesses = accesses;
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

impl Keyed for CallSiteRow {
    type Key<'a> = (Option<u64>, CallAt, Option<Mode>, Call, Option<&'a str>, &'a str);

    fn key(&self) -> Self::Key<'_> {
        (self.address(), self.at, self.mode, self.call, self.symbol.as_deref(), &self.pc)
    }

    fn add(&mut self, other: &CallSiteRow) {
        if self.source != other.source {
            self.source = None;
        }
        if self.named_by != other.named_by {
            self.named_by = None;
        }
        self.counts.add(&other.counts);
    }
}

impl Keyed for CallAccessRow {
    type Key<'a> = (usize, Port, Direction, AccessSize);

    fn key(&self) -> Self::Key<'_> {
        (self.site, self.port, self.dir, self.size)
    }

    fn add(&mut self, other: &CallAccessRow) {
        self.accesses += other.accesses;
    }
}

impl CallCallerRow {
    /// Returns the label of the site: its symbol, or else its address.
    pub fn site(&self) -> &str {
        self.symbol.as_deref().unwrap_or(&self.pc)
    }

    /// The site's function, without the offset in it and the module, or its address.
    pub fn function(&self) -> &str {
        function_of(self.site())
    }
}

impl Keyed for CallCallerRow {
    type Key<'a> = (&'a str, CallAt, Option<Mode>, Vec<(&'a str, bool)>, ChainEnd);

    /// Uses symbols, as the key of a [`CallerRow`].
    fn key(&self) -> Self::Key<'_> {
        let frames = self.frames.iter().map(|frame| (frame.name(), frame.interrupted));
        (self.site(), self.at, self.mode, frames.collect(), self.end)
    }

    /// The addresses are those of one row, whatever the order.
    fn add(&mut self, other: &CallCallerRow) {
        let accesses = self.accesses + other.accesses;
        if (&other.pc, &other.frames) < (&self.pc, &self.frames) {
            *self = other.clone();
        }
        self.accesses = accesses;
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

impl CallCounts {
    pub(crate) fn add(&mut self, other: &CallCounts) {
        self.calls += other.calls;
        self.accesses += other.accesses;
        self.bytes += other.bytes;
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

/// Joins the distinct values. Values that are lists already are split first.
pub(crate) fn union<'a>(values: impl IntoIterator<Item = &'a str>, separator: &str) -> String {
    let values: BTreeSet<&str> =
        values.into_iter().flat_map(|value| value.split(separator)).collect();
    values.into_iter().collect::<Vec<_>>().join(separator)
}
