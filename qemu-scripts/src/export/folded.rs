//! Call chains as folded stacks: functions from the outermost inwards, separated by semicolons, and the accesses.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Result, ensure};

use crate::report::{call_chain_path, chain_path};
use crate::stats::Tables;

/// Writes a line for each chain of functions.
///
/// # Errors
///
/// Fails if the tables have no call chains, or if the output cannot be written.
pub fn write(tables: &Tables, out: &mut impl Write) -> Result<()> {
    for (path, accesses) in paths(tables)? {
        writeln!(out, "{} {accesses}", path.join(";"))?;
    }
    Ok(())
}

/// Adds up accesses, by instruction and by hypercall, by the functions of their call chains, outermost first.
///
/// # Errors
///
/// Fails if the tables have no call chains.
pub fn paths(tables: &Tables) -> Result<BTreeMap<Vec<String>, u64>> {
    ensure!(
        !tables.callers.is_empty() || !tables.call_callers.is_empty(),
        "the tables have no call chains; run the guest with the plugin's option callers=on"
    );
    let mut paths = BTreeMap::new();
    let by_instruction = tables.callers.iter().map(|row| (chain_path(row), row.accesses));
    let by_call = tables.call_callers.iter().map(|row| (call_chain_path(row), row.accesses));
    for (path, accesses) in by_instruction.chain(by_call) {
        // A semicolon separates names.
        let path = path.into_iter().map(|name| name.replace(';', ","));
        let sum: &mut u64 = paths.entry(path.collect()).or_default();
        *sum = sum.saturating_add(accesses);
    }
    Ok(paths)
}
