//! Boots guests on QEMU under pvio: what the programs of `qemu-scripts` and the tests share.
//!
//! [`places`] says where things are, [`machine`] runs QEMU, [`linux`] boots a kernel on it, [`guest_test`] asks
//! guests for their verdicts, [`mod@bench`] measures, [`forms`] and [`driver`] know what the guests of these
//! names do, [`experiment`] measures the ways from a guest to its monitor, [`status`] ends a program.

pub mod bench;
pub mod driver;
pub mod experiment;
pub mod forms;
pub mod guest_test;
pub mod interrupt;
pub mod linux;
pub mod machine;
pub mod measure;
pub mod places;
pub mod status;
pub mod table;
pub mod terminal;
