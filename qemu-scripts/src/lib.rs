//! Boots guests on QEMU under pvio: what the commands of `pvio` and the tests share.
//!
//! - [`paths`] finds the plugin, the guests and the QEMUs; [`machine`] runs QEMU; [`linux`] boots a kernel on it.
//! - [`guest_test`] asks guests for their verdicts.
//! - [`mod@bench`] measures; [`measure`] compares two things that are measured in turn.
//! - [`expected_forms`] and [`demo`] know what the demo's two guests do.
//! - [`experiment`] measures the ways from a guest to its monitor.
//! - [`dumps`] reads and writes dumps; [`diff`] compares two; [`report`] makes a page of one.
//! - [`status`], [`signals`], [`progress`] and [`table`] talk to the person at the terminal.

pub mod bench;
pub mod demo;
pub mod diff;
pub mod dumps;
pub mod expected_forms;
pub mod experiment;
pub mod guest_test;
pub mod linux;
pub mod machine;
pub mod measure;
pub mod paths;
pub mod progress;
pub mod report;
pub mod signals;
pub mod status;
pub mod table;

// The schema of the dumps. Every module here takes it from this line.
pub use pvio_stats as stats;
