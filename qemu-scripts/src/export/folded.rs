//! Call chains as folded stacks: the functions from the outermost on, with semicolons, and the accesses.

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

/// The accesses by the functions of their chains.
///
/// # Errors
///
/// Fails if there are none.
pub fn paths(tables: &Tables) -> Result<BTreeMap<Vec<String>, u64>> {
    ensure!(
        !tables.callers.is_empty(),
        "there are no call chains; the plugin counts them with the option callers=on"
    );
    let mut paths = BTreeMap::new();
    for row in &tables.callers {
        // A semicolon would part a name.
        let path = chain_path(row).into_iter().map(|name| name.replace(';', ","));
        let sum: &mut u64 = paths.entry(path.collect()).or_default();
        *sum = sum.saturating_add(row.accesses);
    }
    Ok(paths)
}
