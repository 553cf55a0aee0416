//! Guests that report whether they passed.
//!
//! A guest reports its verdict with the hypercall `exit`, and logs with `log`. Options, or a `guest.toml` beside the
//! guest, name other ends that count as success. A machine that ends in another way has no verdict.
//!
//! A run holds the paths of its guests, and the reports of the few guests that run at the same time.

mod boot;
mod boot_kind;
mod cargo;
mod command_line;
mod executable;
mod expectation;
mod format;
mod github;
mod guest;
mod junit;
mod kept;
mod lines;
mod log;
mod multiboot;
mod outputs;
mod pattern;
mod quote;
mod report;
mod runner;
mod schedule;
mod selection;
mod settings;
mod shadowed;
mod suite;
mod tap;
mod unittest_run;
mod unittests;
mod verdict;
mod waiter;

pub use boot_kind::BootKind;
pub use cargo::{is_started_by_cargo, quoted};
pub use format::{Format, Totals};
pub use github::GitHub;
pub(crate) use github::{data, property};
pub use guest::Guest;
pub use junit::{Junit, is_xml, merge as merge_junit};
pub use lines::Lines;
pub use log::LogLine;
pub use pattern::Pattern;
pub use report::Report;
pub use runner::Runner;
pub use schedule::run_in_order;
pub use selection::{Entries, Entry, Selection, Shard};
pub use settings::{Settings, TIMEOUTS};
pub use suite::Suite;
pub use tap::Tap;
pub use unittests::Unittests;
pub use verdict::Verdict;
