//! The accesses that an option selects; the syntax is that of [`pvio_stats::access_filter`].

use pvio_stats::access_filter::FilteredProcess;
pub use pvio_stats::access_filter::{AccessFilter, FilterError};

use crate::processes::Owner;

impl FilteredProcess for Owner {
    fn pid(&self) -> Option<u32> {
        match self {
            Owner::Process { pid, .. } => Some(*pid),
            Owner::AddressSpace(_) | Owner::Unpaged => None,
        }
    }

    fn comm(&self) -> Option<String> {
        match self {
            Owner::Process { comm, .. } => Some(comm.text()),
            Owner::AddressSpace(_) | Owner::Unpaged => None,
        }
    }

    fn page_table(&self) -> Option<u64> {
        match self {
            Owner::AddressSpace(table) => Some(*table),
            Owner::Process { .. } | Owner::Unpaged => None,
        }
    }
}
