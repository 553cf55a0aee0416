//! The accesses that an option selects; the syntax is that of [`pvio_stats::access_filter`].

mod live;

pub use live::{FilterChangeError, FilterLimits, LiveFilter};
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

/// Parses the filters of a text, each after a colon but the first. A doubled colon is a colon in a filter.
///
/// # Errors
///
/// As [`AccessFilter::parse`].
pub fn parse_filters(text: &str) -> Result<AccessFilter, FilterError> {
    let filters = split_at_single_colons(text);
    AccessFilter::parse(filters.iter().map(String::as_str).filter(|text| !text.is_empty()))
}

/// Splits at each colon that stands alone; a doubled colon is a colon in the value.
pub fn split_at_single_colons(text: &str) -> Vec<String> {
    // A C string cannot contain a NUL, which stands for the doubled colon here.
    text.replace("::", "\0").split(':').map(|part| part.replace('\0', ":")).collect()
}
