//! The guest shim: the C header, the assembly include, the Rust crate.

use std::collections::BTreeMap;

use pvio::stats::Tables;

mod c;
mod header;
mod header_misuse;
mod linux_process;
mod pvio_call;
mod rust;
mod seabios;

/// Count, bytes and errors of each hypercall. Fails if one was declined or denied.
fn hypercalls(tables: &Tables) -> BTreeMap<&'static str, (u64, u64, u64)> {
    let rows = tables.hypercalls.iter();
    rows.map(|row| {
        assert_eq!((row.declined, row.denied), (0, 0), "{row:?}");
        (row.call.name(), (row.count, row.bytes, row.errors))
    })
    .collect()
}
