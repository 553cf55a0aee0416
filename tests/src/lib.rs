//! What the integration tests share: the QEMUs that they run on, and what any dump must fulfil.

mod busy;
mod compiler;
mod dump;
mod guest_run;
pub mod guests;
pub mod linux;
mod monitor;
mod own_plugin;
pub mod programs;
mod recorder;
mod screen;
mod seabios;
mod settings;
mod trace;
pub mod verdict;
mod wait;

pub use busy::start_busy;
pub use compiler::{Compiler, path_str};
pub use dump::{assert_consistent, parse_hex, site_bytes, site_pc, split_symbol};
pub use guest_run::{GuestRun, GuestTest, assert_forms, run_guest};
pub use monitor::Monitor;
pub use own_plugin::build_copy;
pub use pvio_cli::linux::LinuxGuest;
pub use recorder::{came_in_strings, recorder_argument};
pub use screen::Screen;
pub use seabios::run_seabios;
pub use settings::number_from_env;
pub use trace::{Event, Trace};
pub use wait::wait_until;

use std::path::PathBuf;

use pvio_cli::machine::{Ended, Machine};
use pvio_cli::paths;

/// A QEMU that the tests run on.
#[derive(Debug)]
pub struct Host {
    /// The plugin API that it must turn out to have.
    pub api: i32,
    folder: &'static str,
}

impl Host {
    /// Debian stable's QEMU: plugin API 4, no exception events.
    pub const STABLE: Host = Host { api: 4, folder: "trixie" };
    /// The newest: plugin API 7.
    pub const NEWEST: Host = Host { api: 7, folder: "trixie-backports" };

    /// One of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        paths::private_qemu(self.folder, name).unwrap_or_else(|error| panic!("{error}"))
    }

    /// An x86-64 machine on it.
    pub fn machine(&self) -> Machine {
        Machine::new(&self.program("qemu-system-x86_64"))
    }

    /// Whether it tells which instructions faulted.
    pub fn reports_exceptions(&self) -> bool {
        self.api >= 6
    }
}

/// Makes of each function `fn name(host: &Host)` two tests, one for each QEMU.
#[macro_export]
macro_rules! on_both_qemus {
    ($($name:ident)*) => {
        mod on_api_4 {
            $(#[test] fn $name() { super::$name(&$crate::Host::STABLE) })*
        }
        mod on_api_7 {
            $(#[test] fn $name() { super::$name(&$crate::Host::NEWEST) })*
        }
    };
}

/// One of the guests in `tests/guests`.
pub fn guest(name: &str) -> PathBuf {
    paths::guest(name).unwrap_or_else(|error| panic!("{error}"))
}

/// The one line of pvio's on stderr, of a QEMU that did not start.
pub fn refusal(ended: &Ended) -> String {
    assert!(!ended.status.success(), "it started: {}", ended.stderr);
    assert!(ended.stats.is_none());
    let lines: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("pvio: ")).collect();
    assert_eq!(lines.len(), 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    lines[0].to_owned()
}
