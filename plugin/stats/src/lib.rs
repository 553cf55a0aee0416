#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

pub mod access_filter;
mod accesses;
mod call;
mod check;
mod compare;
#[cfg(test)]
mod json_schema;
mod merge;
mod names;
pub mod nearest;
mod output_path;
pub mod port_names;
mod port_page;
mod post;
mod read;
mod rows;
mod schema;
mod summary;
#[cfg(any(test, feature = "test-data"))]
pub mod test_data;
pub mod text_table;
pub mod toml_file;
mod totals;
pub mod trace;
mod values;
mod without_path;

pub use accesses::{CallSiteAccess, SiteAccess};
pub use call::Call;
pub use check::{Discrepancy, Scope};
pub use compare::{Change, Diff, Row, TablesDiff, WindowDiff};
pub use merge::{MergeError, merge};
pub use output_path::{ForeignLink, output_path};
pub use port_page::render_port;
pub use read::{Problem, ReadError};
pub use schema::{
    AccessCounts, AccessRow, CallAccessRow, CallAt, CallCallerRow, CallCounts, CallSiteRow,
    CallerRow, ChainEnd, Counts, FirstAccess, FormRow, FrameRow, HypercallRow, Instructions,
    JSON_SCHEMA, PortRow, PostRow, Privilege, ProcessRow, QemuRow, SCHEMA, SectionRow, SiteRow,
    Snapshot, SymbolFileRow, Tables, UndecidedFormRow, ValueMoment, ValueRow, VcpuRow, WindowRow,
};
pub use summary::render;
pub use totals::FormCounts;
pub use values::timeline;
pub use without_path::without_path;
