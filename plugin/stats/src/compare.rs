//! Compares two dumps, row by row.

mod row;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hash;

use pvio_x86::{InsnForm, Mode};

pub use self::row::Row;
use crate::Call;
use crate::accesses::{CallSiteAccess, SiteAccess};
use crate::rows::{Keyed, PlaceKey, add_up};
use crate::schema::{
    AccessCounts, CallAt, CallCallerRow, CallCounts, CallSiteRow, CallerRow, FormRow, HypercallRow,
    Instructions, PortRow, SiteRow, Snapshot, Tables, UndecidedFormRow, ValueRow, WindowRow,
};

/// One row in two dumps. At least one of the two is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<R> {
    /// The row in the first dump; `None` if it has none.
    pub before: Option<R>,
    /// The row in the second dump; `None` if it has none.
    pub after: Option<R>,
}

impl<R: Row> Change<R> {
    /// Accesses before and after; 0 for a row that is not there.
    pub fn accesses(&self) -> [u64; 2] {
        [&self.before, &self.after].map(|row| row.as_ref().map_or(0, R::accesses))
    }

    /// Returns the accesses after, minus the accesses before.
    pub fn difference(&self) -> i128 {
        let [before, after] = self.accesses().map(i128::from);
        after - before
    }

    fn is_change(&self) -> bool {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => !before.is_same(after),
            (before, after) => before.iter().chain(after).any(|row| !row.is_idle()),
        }
    }

    /// The difference in percent of what there was; `None` if there was nothing.
    pub fn percent(&self) -> Option<f64> {
        let [before, _] = self.accesses();
        (before != 0).then(|| self.difference() as f64 * 100.0 / before as f64)
    }
}

/// The differences between two dumps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// The differences of the whole dumps.
    pub tables: TablesDiff,
    /// Values at ports, by port; only of ports whose values both dumps have.
    pub values: Vec<Change<ValueRow>>,
    /// The windows that differ, in the order of the first dump, then of the second.
    pub windows: Vec<WindowDiff>,
}

/// The differences between two sets of tables, without rows of equal counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablesDiff {
    /// All accesses, by instruction and by hypercall, before and after.
    pub accesses: [u64; 2],
    /// Instructions of every kind, before and after.
    pub instructions: [Instructions; 2],
    /// Forms, in their order.
    pub forms: Vec<Change<FormRow>>,
    /// Forms that are undecided, in order.
    pub forms_undecided: Vec<Change<UndecidedFormRow>>,
    /// Ports, by port, direction and size.
    pub ports: Vec<Change<PortRow>>,
    /// Sites: those of the first dump by address, then those that only the second has.
    pub sites: Vec<Change<SiteRow>>,
    /// Accesses by site and port, in the order of the sites, then by port.
    pub accesses_by_site: Vec<Change<SiteAccess>>,
    /// Call chains, by the symbols of site and callers; none unless both dumps count by call chain.
    pub callers: Vec<Change<CallerRow>>,
    /// Hypercalls, in the order of the ABI's numbers.
    pub hypercalls: Vec<Change<HypercallRow>>,
    /// Calls at call sites, in the order of sites; none unless both dumps count by call site.
    pub call_sites: Vec<Change<CallSiteRow>>,
    /// Accesses by call site and port, in the order of `call_sites`, then by port.
    pub accesses_by_call_site: Vec<Change<CallSiteAccess>>,
    /// Call chains of call sites, as `callers`.
    pub call_callers: Vec<Change<CallCallerRow>>,
}

/// The differences in one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowDiff {
    /// The name.
    pub name: String,
    /// The number of times it began, before and after; 0 if the dump does not have it.
    pub entries: [u64; 2],
    /// The differences of its tables.
    pub tables: TablesDiff,
}

impl Diff {
    /// Compares two dumps.
    ///
    /// Forms, ports (with direction and size), hypercalls and windows are matched by their names and numbers.
    /// Sites are matched by symbol and offset if both dumps have one for them, so that a kernel that
    /// has moved or was changed elsewhere compares; otherwise by address, mode and bytes.
    pub fn new(before: &Snapshot, after: &Snapshot) -> Diff {
        Diff {
            tables: TablesDiff::new(before, after),
            values: value_changes(&before.values, &after.values),
            windows: window_diffs(&before.windows, &after.windows),
        }
    }

    /// Returns true if nothing differs.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.values.is_empty() && self.windows.is_empty()
    }
}

impl TablesDiff {
    fn new(before: &Tables, after: &Tables) -> TablesDiff {
        let both = [before, after];
        let sites = Matching::of(&before.sites, &after.sites);
        // An older pvio did not count by call site.
        let has_call_sites = both.into_iter().all(has_call_sites);
        let of_call_sites = |tables: &'_ Tables| match has_call_sites {
            true => tables.call_sites.clone(),
            false => Vec::new(),
        };
        let [calls_before, calls_after] = both.map(of_call_sites);
        let call_sites = Matching::of(&calls_before, &calls_after);
        TablesDiff {
            accesses: both.map(Tables::accesses),
            instructions: both.map(|tables| tables.instructions),
            forms: changes(&before.forms, &after.forms),
            forms_undecided: changes(&before.forms_undecided, &after.forms_undecided),
            ports: changes(&before.ports, &after.ports),
            sites: sites.changes(),
            accesses_by_site: access_changes(before, after, &sites),
            callers: match before.callers.is_empty() || after.callers.is_empty() {
                true => Vec::new(),
                false => changes(&before.callers, &after.callers),
            },
            hypercalls: changes(&before.hypercalls, &after.hypercalls),
            call_sites: call_sites.changes(),
            accesses_by_call_site: match has_call_sites {
                true => call_access_changes(before, after, &call_sites),
                false => Vec::new(),
            },
            call_callers: match before.call_callers.is_empty() || after.call_callers.is_empty() {
                true => Vec::new(),
                false => changes(&before.call_callers, &after.call_callers),
            },
        }
    }

    /// Returns true if nothing differs.
    pub fn is_empty(&self) -> bool {
        let [before, after] = self.instructions;
        known_alike(before, after)
            && self.accesses[0] == self.accesses[1]
            && self.forms.is_empty()
            && self.forms_undecided.is_empty()
            && self.ports.is_empty()
            && self.sites.is_empty()
            && self.accesses_by_site.is_empty()
            && self.callers.is_empty()
            && self.hypercalls.is_empty()
            && self.call_sites.is_empty()
            && self.accesses_by_call_site.is_empty()
            && self.call_callers.is_empty()
    }
}

/// Returns true if hypercalls are counted by call site, as far as there were any.
fn has_call_sites(tables: &Tables) -> bool {
    !tables.call_sites.is_empty() || tables.call_sites_dropped_counts == CallCounts::default()
}

/// Returns true if the counts that both dumps have are equal.
fn known_alike(before: Instructions, after: Instructions) -> bool {
    let same = |before: Option<u64>, after: Option<u64>| {
        before.zip(after).is_none_or(|(before, after)| before == after)
    };
    same(before.instructions, after.instructions)
        && same(before.instructions_unverified, after.instructions_unverified)
}

fn window_diffs(before: &[WindowRow], after: &[WindowRow]) -> Vec<WindowDiff> {
    let nothing = Tables::default();
    let find = |windows: &'_ [WindowRow], name: &str| {
        windows.iter().position(|window| window.name == name)
    };
    let only_after = after.iter().filter(|window| find(before, &window.name).is_none());
    let names = before.iter().chain(only_after).map(|window| &window.name);
    let diffs = names.map(|name| {
        let rows = [before, after].map(|rows| find(rows, name).map(|index| &rows[index]));
        let [one, other] = rows.map(|row| row.map_or(&nothing, |row| &row.tables));
        WindowDiff {
            name: name.clone(),
            entries: rows.map(|row| row.map_or(0, |row| row.entries)),
            tables: TablesDiff::new(one, other),
        }
    });
    diffs.filter(|diff| diff.entries[0] != diff.entries[1] || !diff.tables.is_empty()).collect()
}

/// Matches rows by key. Rows that are out of order or have equal keys are sorted and added up first.
fn changes<R: Keyed + Row>(before: &[R], after: &[R]) -> Vec<Change<R>> {
    let [before, after] = [before, after].map(|rows| add_up(rows.iter()));
    let mut changes: BTreeMap<R::Key<'_>, Change<R>> = BTreeMap::new();
    for row in &before {
        changes.insert(row.key(), Change { before: Some(row.clone()), after: None });
    }
    for row in &after {
        let change = changes.entry(row.key()).or_insert(Change { before: None, after: None });
        change.after = Some(row.clone());
    }
    changes.into_values().filter(Change::is_change).collect()
}

/// The values that changed at ports that have values in both dumps: at the others, values may not have been counted.
fn value_changes(before: &[ValueRow], after: &[ValueRow]) -> Vec<Change<ValueRow>> {
    let ports = |rows: &[ValueRow]| rows.iter().map(|row| row.port).collect::<BTreeSet<_>>();
    let both = &ports(before) & &ports(after);
    let of_both = |rows: &[ValueRow]| -> Vec<ValueRow> {
        rows.iter().filter(|row| both.contains(&row.port)).cloned().collect()
    };
    changes(&of_both(before), &of_both(after))
}

/// Matches accesses by port and by sites that match.
///
/// Accesses are compared only if both dumps have them: an older pvio wrote none.
fn access_changes(
    before: &Tables,
    after: &Tables,
    sites: &Matching<'_, SiteRow>,
) -> Vec<Change<SiteAccess>> {
    let is_counted = |tables: &Tables| {
        !tables.accesses.is_empty() || tables.accesses_dropped == AccessCounts::default()
    };
    if !is_counted(before) || !is_counted(after) {
        return Vec::new();
    }
    let numbers = sites.numbers_after();
    let mut changes = BTreeMap::new();
    for row in &before.accesses {
        let change = Change { before: before.with_site(row), after: None };
        changes.insert((row.site, row.port, row.dir, row.size), change);
    }
    for row in &after.accesses {
        let Some(&number) = numbers.get(row.site) else { continue };
        let change = changes.entry((number, row.port, row.dir, row.size));
        change.or_insert(Change { before: None, after: None }).after = after.with_site(row);
    }
    changes.into_values().filter(Change::is_change).collect()
}

/// Matches accesses by port and by call sites that match, as [`access_changes`].
fn call_access_changes(
    before: &Tables,
    after: &Tables,
    sites: &Matching<'_, CallSiteRow>,
) -> Vec<Change<CallSiteAccess>> {
    let numbers = sites.numbers_after();
    let mut changes = BTreeMap::new();
    for row in &before.call_accesses {
        let change = Change { before: before.with_call_site(row), after: None };
        changes.insert((row.site, row.port, row.dir, row.size), change);
    }
    for row in &after.call_accesses {
        let Some(&number) = numbers.get(row.site) else { continue };
        let change = changes.entry((number, row.port, row.dir, row.size));
        let change = change.or_insert(Change { before: None, after: None });
        change.after = after.with_call_site(row);
    }
    changes.into_values().filter(Change::is_change).collect()
}

/// A row of a site, for [`Matching`].
trait Matched: Row + Clone {
    /// The position of the site, and what it is.
    type Place: Eq + Hash;
    /// What two sites with one symbol have in common.
    type Kind: Eq + Hash;

    fn symbol(&self) -> Option<&str>;
    fn place(&self) -> Self::Place;
    fn kind(&self) -> Self::Kind;
}

impl Matched for SiteRow {
    type Place = ((Option<String>, Option<u64>), Option<Mode>, String);
    type Kind = (Option<Mode>, InsnForm);

    fn symbol(&self) -> Option<&str> {
        self.symbol.as_deref()
    }

    fn place(&self) -> Self::Place {
        let place = match self.place_key() {
            PlaceKey::File(file, offset) => (Some(file.to_owned()), offset),
            PlaceKey::Address(address) => (None, address),
        };
        (place, self.mode, self.bytes.clone())
    }

    fn kind(&self) -> Self::Kind {
        (self.mode, self.form)
    }
}

impl Matched for CallSiteRow {
    type Place = (Option<u64>, CallAt, Option<Mode>, Call);
    type Kind = (CallAt, Option<Mode>, Call);

    fn symbol(&self) -> Option<&str> {
        self.symbol.as_deref()
    }

    fn place(&self) -> Self::Place {
        (self.address(), self.at, self.mode, self.call)
    }

    fn kind(&self) -> Self::Kind {
        (self.at, self.mode, self.call)
    }
}

/// Pairs of rows of two dumps, found in several passes.
struct Matching<'a, R> {
    before: &'a [R],
    after: &'a [R],
    /// For each row of `before` the index of its partner.
    partners: Vec<Option<usize>>,
    /// For each row of `after` whether it has a partner.
    is_taken: Vec<bool>,
}

impl<'a, R: Matched> Matching<'a, R> {
    /// Matches sites. Several rows may have one symbol, such as a page that is mapped twice: equal
    /// addresses are matched first, the rest in the order of their addresses.
    fn of(before: &'a [R], after: &'a [R]) -> Matching<'a, R> {
        let (partners, is_taken) = (vec![None; before.len()], vec![false; after.len()]);
        let mut matching = Matching { before, after, partners, is_taken };
        matching.pair(|row| Some((row.symbol()?.to_owned(), row.place())), |_, _| true);
        matching.pair(|row| Some((row.symbol()?.to_owned(), row.kind())), |_, _| true);
        // The sites left over with a symbol in both dumps have different symbols: different instructions.
        let unless_both = |one: &R, other: &R| one.symbol().is_none() || other.symbol().is_none();
        matching.pair(|row| Some(row.place()), unless_both);
        matching
    }

    /// The sites that changed: those of the first dump, then those that only the second has.
    fn changes(&self) -> Vec<Change<R>> {
        let matched = self.before.iter().zip(&self.partners).map(|(row, partner)| Change {
            before: Some(row.clone()),
            after: partner.map(|index| self.after[index].clone()),
        });
        let added = self.after.iter().zip(&self.is_taken).filter(|(_, is_taken)| !**is_taken);
        let added = added.map(|(row, _)| Change { before: None, after: Some(row.clone()) });
        matched.chain(added).filter(Change::is_change).collect()
    }

    /// For each row of `after`, the index of its partner in `before`. Rows without one come after all of `before`.
    fn numbers_after(&self) -> Vec<usize> {
        let own = self.before.len();
        let mut numbers: Vec<usize> = (own..own + self.after.len()).collect();
        for (index, partner) in self.partners.iter().enumerate() {
            partner.iter().for_each(|&partner| numbers[partner] = index);
        }
        numbers
    }

    /// Pairs free rows with equal keys that fulfil a condition, in the order of the tables. Rows
    /// without a key stay free.
    fn pair<K: Eq + Hash>(
        &mut self,
        key: impl Fn(&R) -> Option<K>,
        condition: impl Fn(&R, &R) -> bool,
    ) {
        let mut free: HashMap<K, VecDeque<usize>> = HashMap::new();
        for (index, row) in self.after.iter().enumerate() {
            if let Some(key) = key(row).filter(|_| !self.is_taken[index]) {
                free.entry(key).or_default().push_back(index);
            }
        }
        for (row, partner) in self.before.iter().zip(&mut self.partners) {
            let Some(key) = key(row).filter(|_| partner.is_none()) else { continue };
            let Some(indexes) = free.get_mut(&key) else { continue };
            let found = indexes.iter().position(|&index| condition(row, &self.after[index]));
            if let Some(index) = found.and_then(|position| indexes.remove(position)) {
                *partner = Some(index);
                self.is_taken[index] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests;
