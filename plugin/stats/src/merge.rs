//! Adds up dumps of several runs.

use std::collections::HashMap;

use crate::accesses;
use crate::check::overflowing;
use crate::rows::{add_up, union};
use crate::schema::{
    AccessCounts, CallCounts, Counts, Instructions, QemuRow, Snapshot, Tables, WindowRow,
};

/// Dumps that cannot be added up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// No dump was given.
    #[error("there is nothing to merge: name at least one dump")]
    Nothing,
    /// A count of the sum is too large.
    #[error("the sum of {0} does not fit in 64 bits")]
    Overflow(&'static str),
}

/// Adds up dumps: the result is the dump that one run would have made of all that these runs did.
///
/// Merging is associative: dumps may be merged in groups, and the results again. The order matters
/// only for the order of windows and symbol files, which is that of their first appearance.
///
/// | field | in the result |
/// | --- | --- |
/// | counts, `runs`, `entries` | the sum; a count that is `null` in one dump is `null` |
/// | `pvio`, `target`, `ended`, a port's `name` | all values, sorted, separated by commas |
/// | `version` | the same; `null` if it is `null` in one dump |
/// | `plugin_api` | the lowest |
/// | `vcpus` | rows by index; omitted if one dump omits them |
/// | `served` | true if true in one dump; else `null` if `null` in one; else false |
/// | `first` | `null`, unless there is one dump |
/// | `sites` | rows by all that is not a count; a site with two names has two rows |
/// | `accesses` | rows by the site's row in the sum, port, direction and size |
/// | `callers` | rows by the symbols of site and frames, or their addresses where they have none; \
///   the addresses are those of one dump |
/// | `call_sites` | rows by all that is not a count |
/// | `call_accesses` | as `accesses`, by the row of `call_sites` |
/// | `call_callers` | as `callers` |
/// | `processes` | rows by kernel, number and name, or page table |
/// | `values` | rows by port, direction, size and value; `first`, `last` and `values_clock` are `null`, unless there is one dump |
/// | `post`, `post_clock`, `post_dropped` | empty, `null` and 0, unless there is one dump |
/// | `windows` | rows by name; `open` and `rows_dropped` are true if true in one dump |
///
/// # Errors
///
/// Fails if there is no dump, or if a sum does not fit in 64 bits.
pub fn merge(dumps: &[Snapshot]) -> Result<Snapshot, MergeError> {
    let first = dumps.first().ok_or(MergeError::Nothing)?;
    let keep_vcpus = dumps.iter().all(|dump| dump.vcpus_omitted.is_none());
    let whole: Vec<&Tables> = dumps.iter().map(|dump| &dump.tables).collect();
    let mut symbol_files = Vec::new();
    for file in dumps.iter().flat_map(|dump| &dump.symbol_files) {
        if !symbol_files.contains(file) {
            symbol_files.push(file.clone());
        }
    }
    let reasons = dumps.iter().filter_map(|dump| dump.vcpus_omitted.as_deref());
    // The codes of two runs have no common order.
    let only = Some(first).filter(|_| dumps.len() == 1);
    let (values, values_dropped) = crate::values::merge(dumps)?;
    Ok(Snapshot {
        schema: first.schema.clone(),
        pvio: union(dumps.iter().map(|dump| &*dump.pvio), ", ").into(),
        qemu: merge_qemu(dumps),
        ended: union(dumps.iter().map(|dump| &*dump.ended), ", ").into(),
        runs: total(dumps.iter().map(|dump| dump.runs), "runs")?,
        tables: merge_tables(&whole, keep_vcpus)?,
        vcpus_omitted: (!keep_vcpus).then(|| union(reasons, "; ").into()),
        symbol_files,
        sites_dropped: total(dumps.iter().map(|dump| dump.sites_dropped), "sites_dropped")?,
        values_clock: first.values_clock.clone().filter(|_| dumps.len() == 1),
        values,
        values_dropped,
        post_clock: only.and_then(|dump| dump.post_clock.clone()),
        post: only.map_or_else(Vec::new, |dump| dump.post.clone()),
        post_dropped: only.map_or(0, |dump| dump.post_dropped),
        windows: merge_windows(dumps, keep_vcpus)?,
    })
}

fn merge_qemu(dumps: &[Snapshot]) -> QemuRow {
    let versions: Option<Vec<&str>> =
        dumps.iter().map(|dump| dump.qemu.version.as_deref()).collect();
    QemuRow {
        version: versions.map(|versions| union(versions, ", ")),
        plugin_api: dumps.iter().map(|dump| dump.qemu.plugin_api).min().unwrap_or_default(),
        target: union(dumps.iter().map(|dump| &*dump.qemu.target), ", "),
    }
}

fn merge_windows(dumps: &[Snapshot], keep_vcpus: bool) -> Result<Vec<WindowRow>, MergeError> {
    let mut names: Vec<&str> = Vec::new();
    let mut by_name: HashMap<&str, Vec<&WindowRow>> = HashMap::new();
    for window in dumps.iter().flat_map(|dump| &dump.windows) {
        let rows = by_name.entry(&window.name).or_default();
        if rows.is_empty() {
            names.push(&window.name);
        }
        rows.push(window);
    }
    let merged = names.into_iter().map(|name| merge_window(name, &by_name[name], keep_vcpus));
    merged.collect()
}

fn merge_window(
    name: &str,
    rows: &[&WindowRow],
    keep_vcpus: bool,
) -> Result<WindowRow, MergeError> {
    let tables: Vec<&Tables> = rows.iter().map(|row| &row.tables).collect();
    let rows_dropped = rows.iter().any(|row| row.rows_dropped);
    let mut tables = merge_tables(&tables, keep_vcpus)?;
    if rows_dropped {
        // The rows of the others would pass for all that there were.
        tables.ports.clear();
        tables.callers.clear();
        let sites = std::mem::take(&mut tables.sites);
        sites.iter().for_each(|row| tables.sites_dropped_counts.add(&row.counts));
        let processes = std::mem::take(&mut tables.processes);
        for row in &processes {
            tables.processes_dropped_counts.add(&row.counts);
            tables.processes_dropped_hypercall += row.hypercall;
        }
        let accesses = std::mem::take(&mut tables.accesses);
        accesses.iter().for_each(|row| tables.accesses_dropped.add(&row.counts));
        let call_sites = std::mem::take(&mut tables.call_sites);
        call_sites.iter().for_each(|row| tables.call_sites_dropped_counts.add(&row.counts));
        let call_accesses = std::mem::take(&mut tables.call_accesses);
        tables.call_accesses_dropped += call_accesses.iter().map(|row| row.accesses).sum::<u64>();
        tables.call_callers.clear();
    }
    Ok(WindowRow {
        name: name.to_owned(),
        entries: total(rows.iter().map(|row| row.entries), "entries")?,
        open: rows.iter().any(|row| row.open),
        rows_dropped,
        tables,
    })
}

fn merge_tables(parts: &[&Tables], keep_vcpus: bool) -> Result<Tables, MergeError> {
    // If the sum of each column fits, so does that of any two rows.
    if let Some(table) = overflowing(parts) {
        return Err(MergeError::Overflow(table));
    }
    let mut sites_dropped_counts = Counts::default();
    let mut accesses_dropped = AccessCounts::default();
    let mut processes_dropped_counts = Counts::default();
    let mut call_sites_dropped_counts = CallCounts::default();
    for part in parts {
        call_sites_dropped_counts.add(&part.call_sites_dropped_counts);
        sites_dropped_counts.add(&part.sites_dropped_counts);
        accesses_dropped.add(&part.accesses_dropped);
        processes_dropped_counts.add(&part.processes_dropped_counts);
    }
    let sites = add_up(parts.iter().flat_map(|part| &part.sites));
    let call_sites = add_up(parts.iter().flat_map(|part| &part.call_sites));
    let vcpus = add_up(parts.iter().flat_map(|part| &part.vcpus));
    let mut ports = add_up(parts.iter().flat_map(|part| &part.ports));
    if parts.len() > 1 {
        ports.iter_mut().for_each(|row| row.first = None);
    }
    Ok(Tables {
        vcpus: if keep_vcpus { vcpus } else { Vec::new() },
        forms: add_up(parts.iter().flat_map(|part| &part.forms)),
        forms_undecided: add_up(parts.iter().flat_map(|part| &part.forms_undecided)),
        ports,
        accesses: accesses::merge(parts, &sites),
        accesses_dropped,
        sites,
        sites_dropped_counts,
        processes: add_up(parts.iter().flat_map(|part| &part.processes)),
        processes_dropped_counts,
        processes_dropped_hypercall: parts
            .iter()
            .map(|part| part.processes_dropped_hypercall)
            .sum(),
        callers: add_up(parts.iter().flat_map(|part| &part.callers)),
        hypercalls: add_up(parts.iter().flat_map(|part| &part.hypercalls)),
        call_accesses: accesses::merge_calls(parts, &call_sites),
        call_accesses_dropped: parts.iter().map(|part| part.call_accesses_dropped).sum(),
        call_sites,
        call_sites_dropped_counts,
        call_callers: add_up(parts.iter().flat_map(|part| &part.call_callers)),
        instructions: parts
            .iter()
            .map(|part| part.instructions)
            .reduce(Instructions::plus)
            .unwrap_or_default(),
        sections: add_up(parts.iter().flat_map(|part| &part.sections)),
    })
}

fn total(counts: impl Iterator<Item = u64>, name: &'static str) -> Result<u64, MergeError> {
    let sum: u128 = counts.map(u128::from).sum();
    sum.try_into().map_err(|_| MergeError::Overflow(name))
}

#[cfg(test)]
mod tests;
