//! Shared parts of the command `pvio` and of the tests: booting guests, measuring, reporting.
//!
//! - [`paths`] finds the plugin, the guests and the QEMUs; [`machine`] runs QEMU; [`linux`] boots a kernel.
//! - [`guest_test`] runs guests that report whether they passed.
//! - [`mod@bench`] measures costs; [`measure`] computes ratios of things that are measured alternately.
//! - [`expected_forms`] and [`demo`] check the demo's two guests.
//! - [`experiment`] measures port I/O by trap and by hypercall.
//! - [`dumps`] reads dumps and writes files; [`diff`] compares dumps; [`report`] makes a page of one.
//! - [`cost`] estimates what port I/O would cost as VM exits.
//! - [`dumps`] reads dumps and writes files; [`diff`] compares dumps; [`report`] makes a page of one; [`check`] checks
//!   one against a policy.
//! - [`live`] talks to a machine that runs, and [`top`] shows it.
//! - [`trace`](mod@trace) reads traces; [`export`] writes dumps and traces for other programs.
//! - [`source_tree`] puts pvio's guest support into the source of Linux and of SeaBIOS; [`paravirt_linux`] and
//!   [`paravirt_seabios`] boot them.
//! - [`status`], [`signals`], [`progress`] and [`table`] handle exit statuses, signals and the terminal.

pub mod bench;
pub mod check;
pub mod cost;
pub mod demo;
pub mod diff;
pub mod dumps;
pub mod expected_forms;
pub mod experiment;
pub mod export;
pub mod guest_test;
pub mod linux;
pub mod live;
pub mod machine;
pub mod measure;
pub mod pager;
pub mod paravirt_linux;
pub mod paravirt_seabios;
pub mod paths;
pub mod progress;
pub mod report;
pub mod signals;
pub mod source_tree;
pub mod status;
pub mod table;
pub mod top;
pub mod trace;

// The crate that defines the schema of dumps. All modules import it by this name.
pub use pvio_stats as stats;
