//! Call chains as folded stacks: functions from the outermost inwards, separated by semicolons, and the accesses.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Result, ensure};

use crate::report::chain_path;
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

/// Adds up accesses by the functions of their call chains, outermost first.
///
/// # Errors
///
/// Fails if the tables have no call chains.
pub fn paths(tables: &Tables) -> Result<BTreeMap<Vec<String>, u64>> {
    ensure!(
        !tables.callers.is_empty(),
        "the tables have no call chains; run the guest with the plugin's option callers=on"
    );
    let mut paths = BTreeMap::new();
    for row in &tables.callers {
        // A semicolon separates names.
        let path = chain_path(row).into_iter().map(|name| name.replace(';', ","));
        let sum: &mut u64 = paths.entry(path.collect()).or_default();
        *sum = sum.saturating_add(row.accesses);
    }
    Ok(paths)
}
