//! Counts port I/O, hypercalls and instructions, and takes snapshots of the counts.
//!
//! Data flows one way. `interception` and `hypercalls` count into one
//! [`VcpuCounters`] for each vCPU. Totals are the sums of these, now and where windows begin and end.
//! A [`Snapshot`] is made of totals, and the crate `pvio-stats` makes JSON and text of it. This module
//! does not know where counts come from.

mod access_counters;
mod call;
mod call_counters;
mod call_sites;
mod chain_rows;
mod chains;
mod collect;
mod counter_array;
mod counters;
mod destination;
mod first_accesses;
mod first_port;
mod instructions;
mod keyed_counters;
mod moment;
mod processes;
mod sites;
mod statistics;
mod totals;
mod trace;
mod values;
mod windows;

#[cfg(test)]
mod tests;

pub use call::{CallOrigin, Outcome};
pub use call_counters::CallAccessCounter;
pub use call_sites::{CallSiteId, CallSiteKey, CallSites, MAX_CALL_SITES};
pub use chains::{CallerId, StackOwner, VcpuChains};
pub use collect::{SnapshotContext, qemu_row};
pub use counters::{PortCounter, VcpuCounters};
pub use destination::{Destination, DestinationError};
pub use instructions::InstructionCounts;
pub use moment::Moment;
pub use processes::{MAX_PROCESSES, ProcessTable, ProcessUse, VcpuProcessCounts};
pub use pvio_stats::{
    AccessCounts, AccessRow, Call, CallAt, CallerRow, ChainEnd, Counts, FormRow, FrameRow,
    HypercallRow, Instructions, PortRow, ProcessRow, QemuRow, SCHEMA, SectionRow, SiteRow,
    Snapshot, SymbolFileRow, Tables, VcpuRow, WindowRow, render,
};
pub use sites::{FileId, FilePlace, MAX_FILES, MAX_SITES, SiteId, SiteKey, Sites};
pub use statistics::Statistics;
pub use values::{MAX_VALUES, ValueClock, ValuePorts, VcpuValues};
pub use windows::{MAX_WINDOW_ROWS, WindowError};
