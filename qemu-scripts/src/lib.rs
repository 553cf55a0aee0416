//! Boots guests on QEMU under pvio: what the programs of `qemu-scripts` and the tests share.
//!
//! [`places`] says where things are, [`machine`] runs QEMU, [`forms`] knows what the guest of that
//! name does, [`experiment`] measures the ways from a guest to its monitor.

pub mod experiment;
pub mod forms;
pub mod machine;
pub mod measure;
pub mod places;
pub mod terminal;
