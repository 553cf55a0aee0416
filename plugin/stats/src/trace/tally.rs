//! Counts the events of a trace like the plugin counts the same events.
//!
//! Counts are signed: something that was counted too early is subtracted later. Windows are differences of totals.

mod windows;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use pvio_x86::{AccessSize, Direction, InsnForm, Port};

use super::event::{CallCode, CallEvent, CallOutcome, Code, Event, InsnEvent, Stage, What};
use super::file::Trace;
use super::tables::snapshot;
use crate::{Call, Snapshot};
pub(super) use windows::Window;

/// Columns of [`Totals::forms`].
pub(super) mod form {
    pub const ATTEMPTS: usize = 0;
    pub const EXECUTIONS: usize = 1;
    pub const ACCESSES: usize = 2;
    pub const FAULTS: usize = 3;
    pub const EXITS: usize = 4;
    pub const UNVERIFIED: usize = 5;
}

/// Columns of [`Totals::sites`] and [`Totals::processes`].
pub(super) mod column {
    pub const EXECUTIONS: usize = 0;
    pub const ACCESSES: usize = 1;
    pub const UNVERIFIED: usize = 2;
    /// Of processes only.
    pub const KERNEL: usize = 3;
    /// Of processes only.
    pub const HYPERCALL: usize = 4;
}

/// Columns of [`Totals::call_sites`].
pub(super) mod call {
    pub const CALLS: usize = 0;
    pub const ACCESSES: usize = 1;
    pub const BYTES: usize = 2;
}

/// Columns of [`Totals::ports`].
pub(super) mod port {
    pub const ACCESSES: usize = 0;
    pub const UNVERIFIED: usize = 1;
    pub const HYPERCALL: usize = 2;
}

/// A port, in one direction, at one size.
pub(super) type PortKey = (Port, Direction, AccessSize);

/// Rows of counts by key, without rows of zeros once they were added up.
pub(super) type Rows<K, const N: usize> = HashMap<K, [i64; N]>;

/// Counts up to a moment, or between two. Sites without a row have the key `None`, as have processes.
#[derive(Clone, Debug)]
pub(super) struct Totals {
    /// Executions, accesses and hypercalls by vCPU.
    pub vcpus: BTreeMap<u32, [i64; 3]>,
    pub forms: [[i64; 6]; InsnForm::COUNT],
    pub ports: Rows<PortKey, 3>,
    pub sites: Rows<Option<u32>, 3>,
    pub accesses: Rows<(u32, Port), 2>,
    pub accesses_dropped: [i64; 2],
    pub calls: [[i64; 5]; Call::ALL.len()],
    /// By call site, `None` without a row, and call.
    pub call_sites: Rows<(Option<u32>, Call), 3>,
    pub call_accesses: Rows<(u32, Call, Port), 1>,
    pub call_accesses_dropped: [i64; 1],
    pub processes: Rows<Option<u32>, 5>,
    /// Accesses by site and stack; the stack is that of a stream.
    pub stacks: Rows<(u32, (u32, u32)), 1>,
    /// Accesses without a stack, by site.
    pub no_stack: Rows<u32, 1>,
    /// Accesses by call site and stack.
    pub call_stacks: Rows<(u32, (u32, u32)), 1>,
    /// Accesses without a stack, by call site.
    pub no_call_stack: Rows<u32, 1>,
}

impl Default for Totals {
    fn default() -> Totals {
        Totals {
            vcpus: BTreeMap::new(),
            forms: [[0; 6]; InsnForm::COUNT],
            ports: HashMap::new(),
            sites: HashMap::new(),
            accesses: HashMap::new(),
            accesses_dropped: [0; 2],
            calls: [[0; 5]; Call::ALL.len()],
            call_sites: HashMap::new(),
            call_accesses: HashMap::new(),
            call_accesses_dropped: [0],
            processes: HashMap::new(),
            stacks: HashMap::new(),
            no_stack: HashMap::new(),
            call_stacks: HashMap::new(),
            no_call_stack: HashMap::new(),
        }
    }
}

impl Totals {
    fn add(&mut self, other: &Totals, sign: i64) {
        for (&vcpu, counts) in &other.vcpus {
            add(self.vcpus.entry(vcpu).or_default(), counts, sign);
        }
        self.forms.iter_mut().zip(&other.forms).for_each(|(own, counts)| add(own, counts, sign));
        self.calls.iter_mut().zip(&other.calls).for_each(|(own, counts)| add(own, counts, sign));
        add(&mut self.accesses_dropped, &other.accesses_dropped, sign);
        add_rows(&mut self.ports, &other.ports, sign);
        add_rows(&mut self.sites, &other.sites, sign);
        add_rows(&mut self.accesses, &other.accesses, sign);
        add_rows(&mut self.processes, &other.processes, sign);
        add_rows(&mut self.stacks, &other.stacks, sign);
        add_rows(&mut self.no_stack, &other.no_stack, sign);
        add_rows(&mut self.call_stacks, &other.call_stacks, sign);
        add_rows(&mut self.no_call_stack, &other.no_call_stack, sign);
        add_rows(&mut self.call_sites, &other.call_sites, sign);
        add_rows(&mut self.call_accesses, &other.call_accesses, sign);
        add(&mut self.call_accesses_dropped, &other.call_accesses_dropped, sign);
    }

    fn large_rows(&self) -> usize {
        let of_sites = self.stacks.len() + self.no_stack.len();
        let by_stack = of_sites + self.call_stacks.len() + self.no_call_stack.len();
        let by_site = self.sites.len() + self.accesses.len();
        let by_call_site = self.call_sites.len() + self.call_accesses.len();
        self.ports.len() + by_site + by_call_site + self.processes.len() + by_stack
    }

    fn drop_large_rows(&mut self) {
        self.ports = HashMap::new();
        for counts in std::mem::take(&mut self.accesses).values() {
            add(&mut self.accesses_dropped, counts, 1);
        }
        for counts in std::mem::take(&mut self.call_accesses).values() {
            add(&mut self.call_accesses_dropped, counts, 1);
        }
        for ((_, call), counts) in std::mem::take(&mut self.call_sites) {
            add(self.call_sites.entry((None, call)).or_default(), &counts, 1);
        }
        (self.stacks, self.no_stack) = (HashMap::new(), HashMap::new());
        (self.call_stacks, self.no_call_stack) = (HashMap::new(), HashMap::new());
        self.processes = in_one_row(&self.processes);
        self.sites = in_one_row(&self.sites);
    }
}

fn add<const N: usize>(own: &mut [i64; N], counts: &[i64; N], sign: i64) {
    own.iter_mut().zip(counts).for_each(|(own, count)| *own = own.wrapping_add(count * sign));
}

fn add_rows<K: Copy + Eq + Hash, const N: usize>(
    own: &mut Rows<K, N>,
    other: &Rows<K, N>,
    sign: i64,
) {
    for (&key, counts) in other {
        add(own.entry(key).or_insert([0; N]), counts, sign);
    }
    own.retain(|_, counts| *counts != [0; N]);
}

fn in_one_row<const N: usize>(rows: &Rows<Option<u32>, N>) -> Rows<Option<u32>, N> {
    let mut sum = [0; N];
    rows.values().for_each(|counts| add(&mut sum, counts, 1));
    if rows.is_empty() { HashMap::new() } else { HashMap::from([(None, sum)]) }
}

/// The source of the first access to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Site(Option<u32>),
    Hypercall,
}

/// The first accesses of one vCPU to a port, as the plugin keeps them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Firsts {
    /// By instruction, and by hypercall.
    counts: [i64; 2],
    entries: [Option<(u64, Source)>; 2],
}

impl Firsts {
    fn count(&mut self, source: Source, by: i64, made: &mut u64) {
        let column = usize::from(source == Source::Hypercall);
        if by > 0 && self.counts[column] == 0 && self.entries[column].is_none() {
            *made += 1;
            self.entries[column] = Some((*made, source));
        }
        self.counts[column] += by;
        if by < 0 && self.counts[column] == 0 {
            self.entries[column] = None;
        }
    }

    /// The order and the source of the first.
    pub fn first(&self) -> Option<(u64, Source)> {
        self.entries.into_iter().flatten().min_by_key(|&(order, _)| order)
    }
}

/// Everything that was counted.
#[derive(Default)]
pub(super) struct Tally {
    /// True if accesses are counted by call chain.
    callers: bool,
    /// Since the last reset.
    pub totals: Totals,
    pub windows: Vec<Window>,
    pub firsts: HashMap<(u32, PortKey), Firsts>,
    made: u64,
    /// The filters that applied at some time, and may have excluded accesses.
    filters: Vec<Box<str>>,
    /// True if the filter changed.
    changed: bool,
    /// True if the trace was off at some time.
    was_off: bool,
}

impl Tally {
    fn event(&mut self, event: &Event, vcpu: (u32, u32)) {
        match &event.what {
            What::Insn(insn) => self.insn(insn, vcpu),
            What::Call(call) => self.call(*call, vcpu),
            What::Window(window, by) => self.window(window, *by, vcpu),
            What::Filter(text) => {
                self.changed = true;
                self.filter(text);
            }
            What::Off => (self.changed, self.was_off) = (true, true),
            What::Irq { .. } => {}
        }
    }

    fn filter(&mut self, text: &str) {
        if !text.is_empty() && !self.filters.iter().any(|other| **other == *text) {
            self.filters.push(text.into());
        }
    }

    /// Lines about what the filters left out.
    fn left_out(&self) -> impl Iterator<Item = String> {
        let filtered = self.filters.iter().map(|filter| match self.changed {
            true => format!(
                "was filtered for a part of the run ({filter}): only accesses that the filter covers are counted there"
            ),
            false => format!("is filtered ({filter}): only accesses that the filter covers are counted"),
        });
        let off = "was off for a part of the run: what the guest did there is not counted";
        filtered.chain(self.was_off.then(|| off.to_owned()))
    }

    fn insn(&mut self, insn: &InsnEvent, vcpu: (u32, u32)) {
        let form = insn.form.index();
        let mut form_column = |column: usize, by: i64| self.totals.forms[form][column] += by;
        match insn.stage {
            Stage::Started
            | Stage::Executed
            | Stage::Unverified
            | Stage::Faulted
            | Stage::Exited
            | Stage::Element { starts: true, .. } => form_column(form::ATTEMPTS, 1),
            Stage::Resumed
            | Stage::ResumedAndExecuted
            | Stage::ResumedAndFaulted
            | Stage::ResumedAndExited
            | Stage::ResumedAndUnverified => form_column(form::FAULTS, -1),
            _ => {}
        }
        match insn.stage {
            Stage::Faulted
            | Stage::ResumedAndFaulted
            | Stage::StringFaulted
            | Stage::UnverifiedBecomesFault => form_column(form::FAULTS, 1),
            Stage::Exited
            | Stage::ResumedAndExited
            | Stage::StringExited
            | Stage::ExecutedBecomesExit
            | Stage::UnverifiedBecomesExit => form_column(form::EXITS, 1),
            _ => {}
        }
        match insn.stage {
            Stage::Executed | Stage::ResumedAndExecuted => self.executed(insn, vcpu, 1),
            Stage::Unverified | Stage::ResumedAndUnverified => self.unverified(insn, 1),
            Stage::Element { ends, .. } => {
                self.accessed(insn, vcpu, 1);
                if ends {
                    self.retired(insn, vcpu, 1);
                }
            }
            Stage::ExecutedBecomesUnverified => {
                self.executed(insn, vcpu, -1);
                self.unverified(insn, 1);
            }
            Stage::UnverifiedBecomesExecuted => {
                self.unverified(insn, -1);
                self.executed(insn, vcpu, 1);
            }
            Stage::UnverifiedBecomesFault | Stage::UnverifiedBecomesExit => {
                self.unverified(insn, -1);
            }
            Stage::ExecutedBecomesExit => self.executed(insn, vcpu, -1),
            _ => {}
        }
    }

    fn executed(&mut self, insn: &InsnEvent, vcpu: (u32, u32), by: i64) {
        self.retired(insn, vcpu, by);
        if insn.port.is_some() {
            self.accessed(insn, vcpu, by);
        }
    }

    fn retired(&mut self, insn: &InsnEvent, (_, vcpu): (u32, u32), by: i64) {
        let totals = &mut self.totals;
        totals.forms[insn.form.index()][form::EXECUTIONS] += by;
        totals.vcpus.entry(vcpu).or_default()[0] += by;
        totals.sites.entry(site(insn)).or_default()[column::EXECUTIONS] += by;
        if let Some(process) = insn.process {
            totals.processes.entry(process.number).or_default()[column::EXECUTIONS] += by;
        }
    }

    fn accessed(&mut self, insn: &InsnEvent, (stream, vcpu): (u32, u32), by: i64) {
        let Some(port) = insn.port else { return };
        let key = (port, insn.form.direction(), insn.form.size());
        let site = site(insn);
        let firsts = self.firsts.entry((stream, key)).or_default();
        firsts.count(Source::Site(site), by, &mut self.made);
        let totals = &mut self.totals;
        totals.forms[insn.form.index()][form::ACCESSES] += by;
        totals.vcpus.entry(vcpu).or_default()[1] += by;
        totals.ports.entry(key).or_default()[port::ACCESSES] += by;
        totals.sites.entry(site).or_default()[column::ACCESSES] += by;
        match site {
            Some(site) => totals.accesses.entry((site, port)).or_default()[0] += by,
            None => totals.accesses_dropped[0] += by,
        }
        if let Some(process) = insn.process {
            let counts = totals.processes.entry(process.number).or_default();
            counts[column::ACCESSES] += by;
            counts[column::KERNEL] += if process.is_user { 0 } else { by };
        }
        if let Some(site) = site.filter(|_| self.callers) {
            match insn.stack {
                Some(stack) => {
                    totals.stacks.entry((site, (stream, stack))).or_default()[0] += by;
                }
                None => totals.no_stack.entry(site).or_default()[0] += by,
            }
        }
    }

    fn unverified(&mut self, insn: &InsnEvent, by: i64) {
        let totals = &mut self.totals;
        let site = site(insn);
        totals.forms[insn.form.index()][form::UNVERIFIED] += by;
        totals.sites.entry(site).or_default()[column::UNVERIFIED] += by;
        if let Some(port) = insn.port {
            let key = (port, insn.form.direction(), insn.form.size());
            totals.ports.entry(key).or_default()[port::UNVERIFIED] += by;
            match site {
                Some(site) => totals.accesses.entry((site, port)).or_default()[1] += by,
                None => totals.accesses_dropped[1] += by,
            }
        }
        if let Some(process) = insn.process {
            totals.processes.entry(process.number).or_default()[column::UNVERIFIED] += by;
        }
    }

    fn call(&mut self, call: CallEvent, (stream, vcpu): (u32, u32)) {
        let totals = &mut self.totals;
        match call {
            CallEvent::Access { call, port, completes, code, stack, process, .. } => {
                let Some((direction, width)) = call.port_io() else { return };
                let key = (port, direction, width.into());
                totals.ports.entry(key).or_default()[port::HYPERCALL] += 1;
                let firsts = self.firsts.entry((stream, key)).or_default();
                firsts.count(Source::Hypercall, 1, &mut self.made);
                let counts = &mut totals.calls[call.index()];
                counts[1] += i64::from(width.bytes());
                counts[0] += i64::from(completes);
                totals.vcpus.entry(vcpu).or_default()[2] += i64::from(completes);
                let site = call_site(code);
                let counts = totals.call_sites.entry((site, call)).or_default();
                counts[call::CALLS] += i64::from(completes);
                counts[call::ACCESSES] += 1;
                counts[call::BYTES] += i64::from(width.bytes());
                match site {
                    Some(site) => {
                        totals.call_accesses.entry((site, call, port)).or_default()[0] += 1;
                    }
                    None => totals.call_accesses_dropped[0] += 1,
                }
                if let Some(process) = process {
                    let counts = totals.processes.entry(process.number).or_default();
                    counts[column::HYPERCALL] += 1;
                }
                if let Some(site) = site.filter(|_| self.callers) {
                    match stack {
                        Some(stack) => {
                            let key = (site, (stream, stack));
                            totals.call_stacks.entry(key).or_default()[0] += 1;
                        }
                        None => totals.no_call_stack.entry(site).or_default()[0] += 1,
                    }
                }
            }
            CallEvent::Ended { call, outcome, count, bytes, code } => {
                let counts = &mut totals.calls[call.index()];
                let count = count as i64;
                counts[0] = counts[0].wrapping_add(count);
                counts[1] = counts[1].wrapping_add(bytes as i64);
                let column = match outcome {
                    CallOutcome::Ok => None,
                    CallOutcome::Declined => Some(2),
                    CallOutcome::Denied => Some(3),
                    CallOutcome::Error => Some(4),
                };
                if let Some(column) = column {
                    counts[column] = counts[column].wrapping_add(count);
                }
                let row = totals.vcpus.entry(vcpu).or_default();
                row[2] = row[2].wrapping_add(count);
                let counts = totals.call_sites.entry((call_site(code), call)).or_default();
                counts[call::CALLS] = counts[call::CALLS].wrapping_add(count);
                counts[call::BYTES] = counts[call::BYTES].wrapping_add(bytes as i64);
            }
        }
    }
}

fn call_site(code: CallCode) -> Option<u32> {
    match code {
        CallCode::Site(site) => Some(site),
        CallCode::Dropped(_) => None,
    }
}

fn site(insn: &InsnEvent) -> Option<u32> {
    match insn.code {
        Code::Site(site) => Some(site),
        Code::Dropped(_) => None,
    }
}

/// Makes statistics of a trace: those that the plugin counted in the same run.
///
/// Returns them, and lines about what they do not include.
pub fn statistics(trace: &mut Trace) -> (Snapshot, Vec<String>) {
    statistics_while(trace, |_, _| {})
}

/// Makes statistics of a trace like [`statistics`], and passes each event and the number of its stream to `visit`.
pub fn statistics_while(
    trace: &mut Trace,
    mut visit: impl FnMut(&Event, u32),
) -> (Snapshot, Vec<String>) {
    let mut tally = Tally { callers: trace.head().callers, ..Tally::default() };
    tally.filter(&trace.head().filter);
    let definitions = trace.read(|event, vcpu, _| {
        tally.event(event, vcpu);
        visit(event, vcpu.0);
        true
    });
    tally.finish();
    let mut lines = trace.problems().to_vec();
    lines.extend(tally.left_out());
    (snapshot(trace, &tally, &definitions), lines)
}
