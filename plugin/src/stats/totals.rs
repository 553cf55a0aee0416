//! Totals: sums of all vCPUs' counters, up to a moment or between two.
//!
//! Rows of zeros are left out. Counts are signed: what was counted too early is taken back later,
//! perhaps in another window or on another vCPU.

use std::sync::Arc;

use pvio_stats::Call;

use super::access_counters::AccessKey;
use super::call::CallColumn;
use super::call_counters::CallRowId;
use super::call_sites::CallSiteId;
use super::counter_array::CounterArray;
use super::counters::{FormColumn, SITE_DROPPED, SiteColumn, VcpuCounters};
use super::processes::PROCESS_DROPPED;
use super::sites::{SiteId, Sites};
use crate::x86::InsnForm;

/// Rows by number, ascending, without rows of zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows<const COLUMNS: usize>(Vec<(u32, [i64; COLUMNS])>);

impl<const COLUMNS: usize> Rows<COLUMNS> {
    fn of(array: &CounterArray<COLUMNS>) -> Self {
        Rows(array.rows().collect())
    }

    /// Sorts rows and adds up those with the same number.
    fn of_unsorted(rows: Vec<(u32, [i64; COLUMNS])>) -> Self {
        let mut rows = Rows(rows);
        rows.add_up();
        rows
    }

    fn add(&mut self, other: &Self, sign: Sign) {
        let sign = sign as i64;
        let signed = |&(row, counts): &(u32, [i64; COLUMNS])| (row, counts.map(|n| n * sign));
        self.0.extend(other.0.iter().map(signed));
        self.add_up();
    }

    fn add_up(&mut self) {
        // The sort merges two ascending runs in a single pass.
        self.0.sort_by_key(|&(row, _)| row);
        self.0.dedup_by(|(row, counts), (kept_row, kept)| {
            let is_same = row == kept_row;
            if is_same {
                kept.iter_mut().zip(counts).for_each(|(kept, count)| *kept += *count);
            }
            is_same
        });
        self.0.retain(|(_, counts)| *counts != [0; COLUMNS]);
        // The limit on windows counts rows, not capacity.
        self.0.shrink_to_fit();
    }

    pub fn sum(&self) -> [i64; COLUMNS] {
        std::array::from_fn(|column| self.0.iter().map(|(_, counts)| counts[column]).sum())
    }

    /// The counts of a row; negative ones are 0.
    pub fn get(&self, row: usize) -> [u64; COLUMNS] {
        let index = self.0.binary_search_by_key(&(row as u32), |&(row, _)| row);
        index.map_or([0; COLUMNS], |index| clamp(self.0[index].1))
    }

    /// The rows with a positive count; negative counts are 0.
    pub fn iter(&self) -> impl Iterator<Item = (usize, [u64; COLUMNS])> {
        let clamped = self.0.iter().map(|&(row, counts)| (row as usize, clamp(counts)));
        clamped.filter(|(_, counts)| *counts != [0; COLUMNS])
    }
}

/// A site's row, with the column of scalars added to the others.
fn with_its_scalars((row, counts): (u32, [i64; 4])) -> (u32, [i64; 3]) {
    let [executions, accesses, unverified, scalars] = counts;
    (row, [executions + scalars, accesses + scalars, unverified])
}

/// Rows of forms with the scalars that were counted by site.
fn scalars_by_form(by_site: &[(u32, [i64; 4])], sites: &Sites) -> Rows<6> {
    let mut forms = [[0; 6]; InsnForm::COUNT];
    // The shared row of sites without a row is of no form and has no scalars.
    for &(row, [.., scalars]) in by_site.iter().filter(|(_, [.., scalars])| *scalars != 0) {
        let form = sites.get(SiteId(row)).form;
        for column in [FormColumn::Attempts, FormColumn::Executions, FormColumn::Accesses] {
            forms[form.index()][column as usize] += scalars;
        }
    }
    let counted = (0..).zip(forms).filter(|(_, counts)| *counts != [0; 6]);
    Rows(counted.collect())
}

/// Rows by site and port, and the sum of what has no row.
///
/// The count of a site's first port is the rest of the site's accesses.
fn accesses(by_site: &Rows<3>, counters: &VcpuCounters) -> (Rows<2>, [i64; 2]) {
    let first = |site| Some(AccessKey::new(site, counters.sites.first_port(site)?).0);
    let sites = by_site.0.iter().filter(|&&(row, _)| row as usize != SITE_DROPPED);
    let mut rows: Vec<_> = sites
        .filter_map(|&(row, [_, accesses, _])| Some((first(SiteId(row))?, [accesses, 0])))
        .collect();
    for (key, counts) in counters.other_ports.rows() {
        rows.push((key.0, counts));
        rows.extend(first(key.site()).map(|first| (first, [-counts[0], 0])));
    }
    let mut dropped = [0; 2];
    for (site, counts) in counters.other_ports.dropped() {
        dropped = [dropped[0] + counts[0], dropped[1] + counts[1]];
        rows.extend(site.and_then(first).map(|first| (first, [-counts[0], 0])));
    }
    (Rows::of_unsorted(rows), dropped)
}

/// A hypercall's row, with the column of calls that moved one element added to the others.
fn with_its_bytes((row, counts): (u32, [i64; 6])) -> (u32, [i64; 5]) {
    let [count, bytes, declined, denied, errors, moved_one] = counts;
    let io = Call::ALL[row as usize].port_io();
    let size = io.map_or(0, |(_, width)| i64::from(width.bytes()));
    (row, [count + moved_one, bytes + moved_one * size, declined, denied, errors])
}

/// Replaces negative counts by 0.
fn clamp<const COLUMNS: usize>(counts: [i64; COLUMNS]) -> [u64; COLUMNS] {
    counts.map(|count| count.try_into().unwrap_or(0))
}

/// The sign with which counts are added.
#[derive(Clone, Copy)]
pub(super) enum Sign {
    Plus = 1,
    Minus = -1,
}

/// The sums of all vCPUs' counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Executions, accesses, hypercalls and instructions of every kind, by vCPU.
    pub vcpus: Rows<4>,
    pub forms: Rows<6>,
    pub ports: Rows<3>,
    pub sites: Rows<3>,
    /// Accesses and unverified accesses, by site and port.
    pub accesses: Rows<2>,
    /// One row: the accesses that have no row in `accesses`.
    pub accesses_dropped: Rows<2>,
    pub hypercalls: Rows<5>,
    /// Instructions of every kind, by place.
    pub instructions: Rows<1>,
    /// Counts by process.
    pub processes: Rows<5>,
    /// Calls, accesses and bytes by call site and call: [`CallRowId`].
    pub call_sites: Rows<3>,
    /// Accesses by [`CallAccessKey`].
    ///
    /// [`CallAccessKey`]: super::call_counters::CallAccessKey
    pub call_accesses: Rows<1>,
    /// One row: the accesses that have no row in `call_accesses`.
    pub call_accesses_dropped: Rows<1>,
    /// Accesses by the stacks of all vCPUs.
    pub stacks: Rows<1>,
    /// Accesses with stacks for which there was no room, by [`StackOwner::number`].
    ///
    /// [`StackOwner::number`]: super::chains::StackOwner::number
    pub no_stack: Rows<1>,
}

impl Totals {
    /// The totals of these counters now.
    pub fn of(all_counters: &[Arc<VcpuCounters>]) -> Totals {
        let mut all = Totals::default();
        for counters in all_counters {
            all.add(&Totals::of_one(counters), Sign::Plus);
        }
        all
    }

    fn of_one(counters: &VcpuCounters) -> Totals {
        // Read once, so that forms and sites have the same scalars.
        let by_site: Vec<_> = counters.by_site.rows().collect();
        let mut forms = Rows::of(&counters.forms);
        forms.add(&scalars_by_form(&by_site, &counters.sites), Sign::Plus);
        let hypercalls = Rows(counters.hypercalls.rows().map(with_its_bytes).collect());
        let by_form = forms.sum();
        let sites = Rows(by_site.into_iter().map(with_its_scalars).collect());
        let (accesses, accesses_dropped) = accesses(&sites, counters);
        let (call_sites, call_accesses, call_dropped) = counters.by_call_site.rows();
        let instructions = counters.instructions.as_ref();
        let instructions = Rows(instructions.map(|counts| counts.rows()).unwrap_or_default());
        let vcpu_row = [
            by_form[FormColumn::Executions as usize],
            by_form[FormColumn::Accesses as usize],
            hypercalls.sum()[CallColumn::Count as usize],
            instructions.sum()[0],
        ];
        Totals {
            vcpus: Rows(vec![(counters.vcpu.0, vcpu_row)]),
            forms,
            ports: Rows::of(&counters.ports),
            sites,
            accesses,
            accesses_dropped: Rows(vec![(0, accesses_dropped)]),
            hypercalls,
            call_sites: Rows::of_unsorted(call_sites),
            call_accesses: Rows::of_unsorted(call_accesses),
            call_accesses_dropped: Rows(vec![(0, [call_dropped])]),
            instructions,
            processes: counters
                .processes()
                .map(|counts| Rows::of(counts.rows()))
                .unwrap_or_default(),
            stacks: Rows(counters.chains().map(|chains| chains.by_stack()).unwrap_or_default()),
            no_stack: counters
                .chains()
                .map(|chains| Rows::of(chains.without_room()))
                .unwrap_or_default(),
        }
    }

    /// Adds or subtracts other totals.
    pub fn add(&mut self, other: &Totals, sign: Sign) {
        self.vcpus.add(&other.vcpus, sign);
        self.forms.add(&other.forms, sign);
        self.ports.add(&other.ports, sign);
        self.sites.add(&other.sites, sign);
        self.accesses.add(&other.accesses, sign);
        self.accesses_dropped.add(&other.accesses_dropped, sign);
        self.hypercalls.add(&other.hypercalls, sign);
        self.instructions.add(&other.instructions, sign);
        self.processes.add(&other.processes, sign);
        self.stacks.add(&other.stacks, sign);
        self.no_stack.add(&other.no_stack, sign);
        self.call_sites.add(&other.call_sites, sign);
        self.call_accesses.add(&other.call_accesses, sign);
        self.call_accesses_dropped.add(&other.call_accesses_dropped, sign);
    }

    /// Adds a hypercall that is being carried out, and its instruction: both are counted later.
    pub fn add_hypercall(&mut self, call: Call, by: &VcpuCounters) {
        let instruction = i64::from(by.instructions.is_some());
        self.vcpus.add(&Rows(vec![(by.vcpu.0, [0, 0, 1, instruction])]), Sign::Plus);
        let row = (by.calls_at() as u32, [instruction]);
        self.instructions.add(&Rows(vec![row]), Sign::Plus);
        let mut counts = [0; 5];
        counts[CallColumn::Count as usize] = 1;
        self.hypercalls.add(&Rows(vec![(call.index() as u32, counts)]), Sign::Plus);
        let row = CallRowId::new(by.call_site(), call);
        self.call_sites.add(&Rows(vec![(row.0, [1, 0, 0])]), Sign::Plus);
    }

    /// Returns true if the tables add up to the same sums, as they do while no vCPU is counting.
    pub fn agree(&self) -> bool {
        let (forms, sites) = (self.forms.sum(), self.sites.sum());
        let of_forms = |column: FormColumn| forms[column as usize];
        let of_sites = |column: SiteColumn| sites[column as usize];
        let [ports_accesses, ports_unverified, ports_hypercall] = self.ports.sum();
        let [calls, call_accesses, call_bytes] = self.call_sites.sum();
        let [by_count, by_bytes, ..] = self.hypercalls.sum();
        let all = of_sites(SiteColumn::Accesses) + call_accesses;
        let [accesses, dropped] = [&self.accesses, &self.accesses_dropped].map(Rows::sum);
        of_forms(FormColumn::Executions) == of_sites(SiteColumn::Executions)
            && of_forms(FormColumn::Accesses) == of_sites(SiteColumn::Accesses)
            && of_forms(FormColumn::Unverified) == of_sites(SiteColumn::Unverified)
            && of_forms(FormColumn::Accesses) == ports_accesses
            && accesses[0] + dropped[0] == ports_accesses
            && accesses[1] + dropped[1] == ports_unverified
            && (calls, call_bytes) == (by_count, by_bytes)
            && call_accesses == ports_hypercall
            && call_accesses == self.call_accesses.sum()[0] + self.call_accesses_dropped.sum()[0]
            && [0, all].contains(&self.by_stack())
            && [0, call_accesses].contains(&self.processes.sum()[4])
            && [0, of_sites(SiteColumn::Accesses)].contains(&self.processes.sum()[1])
    }

    /// All accesses that were counted by stack; 0 if call chains are not counted.
    fn by_stack(&self) -> i64 {
        self.stacks.sum()[0] + self.no_stack.sum()[0]
    }

    /// The number of rows in the tables that may be large: ports, sites, both together, processes and stacks. Call sites
    /// are sites here.
    pub fn large_rows(&self) -> usize {
        let by_stack = self.stacks.0.len() + self.no_stack.0.len();
        let by_site = self.sites.0.len() + self.accesses.0.len();
        let by_call_site = self.call_sites.0.len() + self.call_accesses.0.len();
        self.ports.0.len() + by_site + by_call_site + self.processes.0.len() + by_stack
    }

    /// Drops the rows of ports, accesses and stacks, and moves those of sites and call sites to the shared rows.
    pub fn drop_large_rows(&mut self) {
        self.ports = Rows::default();
        let accesses = std::mem::take(&mut self.accesses).sum();
        self.accesses_dropped.add(&Rows(vec![(0, accesses)]), Sign::Plus);
        (self.stacks, self.no_stack) = (Rows::default(), Rows::default());
        if !self.processes.0.is_empty() {
            self.processes = Rows(vec![(PROCESS_DROPPED as u32, self.processes.sum())]);
        }
        self.sites = Rows(vec![(SITE_DROPPED as u32, self.sites.sum())]);
        let accesses = std::mem::take(&mut self.call_accesses).sum();
        self.call_accesses_dropped.add(&Rows(vec![(0, accesses)]), Sign::Plus);
        let dropped = std::mem::take(&mut self.call_sites).0.into_iter().map(|(row, counts)| {
            (CallRowId::new(CallSiteId::DROPPED, CallRowId(row).call()).0, counts)
        });
        self.call_sites = Rows::of_unsorted(dropped.collect());
    }
}
