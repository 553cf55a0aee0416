//! What the integration tests share: the QEMUs that they run on, and what any dump must fulfil.

mod busy;
mod guest_run;
pub mod guests;
mod monitor;
mod own_plugin;
pub mod programs;
mod recorder;
mod screen;
mod seabios;
mod settings;
mod trace;
pub mod verdict;

pub use busy::start_busy;
pub use guest_run::{GuestRun, GuestTest, assert_forms, run_guest};
pub use monitor::Monitor;
pub use own_plugin::build_copy;
pub use pvio_scripts::linux::LinuxGuest;
pub use recorder::{came_in_strings, recorder_argument};
pub use screen::Screen;
pub use seabios::run_seabios;
pub use settings::number_from_env;
pub use trace::{Event, Trace};

use std::path::PathBuf;

use pvio::stats::{FormRow, PortRow, Snapshot, Tables, VcpuRow};
use pvio_scripts::machine::{Ended, Machine};
use pvio_scripts::places;

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
        places::private_qemu(self.folder, name).unwrap_or_else(|error| panic!("{error}"))
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
    places::guest(name).unwrap_or_else(|error| panic!("{error}"))
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

/// Fails unless the tables of a dump, and of each of its windows, add up to the same totals.
pub fn assert_consistent(stats: &Snapshot) {
    assert_tables_consistent(stats, stats.vcpus_omitted.is_none(), true);
    for row in &stats.forms {
        let ended = [row.faults, row.exits].into_iter().flatten().sum::<u64>();
        assert!(row.attempts >= row.executions + ended + row.unverified, "{}", row.form);
    }
    // Where others count on while a window begins or ends, it has some of an instruction's counts.
    if stats.vcpus.len() <= 1 {
        for window in &stats.windows {
            assert_tables_consistent(window, stats.vcpus_omitted.is_none(), !window.rows_dropped);
        }
    }
}

fn assert_tables_consistent(tables: &Tables, has_vcpus: bool, has_ports: bool) {
    let forms = |column: fn(&FormRow) -> u64| tables.forms.iter().map(column).sum::<u64>();
    let ports = |column: fn(&PortRow) -> u64| tables.ports.iter().map(column).sum::<u64>();
    let vcpus = |column: fn(&VcpuRow) -> u64| tables.vcpus.iter().map(column).sum::<u64>();
    let sites = tables.sites.iter().map(|row| row.counts).chain([tables.sites_dropped_counts]);
    let executions = forms(|row| row.executions);
    let accesses = forms(|row| row.accesses);
    let hypercalls = tables.hypercalls.iter().map(|row| row.count).sum::<u64>();
    assert_eq!(sites.clone().map(|site| site.accesses).sum::<u64>(), accesses, "by site");
    assert_eq!(sites.map(|site| site.executions).sum::<u64>(), executions, "by site");
    if has_ports {
        let moved = tables.hypercalls.iter().filter_map(|row| {
            let (_, width) = row.call.port_io()?;
            Some(row.bytes / u64::from(width.bytes()))
        });
        assert_eq!(ports(|row| row.device + row.qemu), accesses, "accesses by port and by form");
        assert_eq!(
            ports(|row| row.hypercall),
            moved.sum::<u64>(),
            "accesses by port and by hypercall"
        );
    }
    if has_vcpus {
        assert_eq!(vcpus(|row| row.accesses), accesses, "by vCPU");
        assert_eq!(vcpus(|row| row.executions), executions, "by vCPU");
        assert_eq!(vcpus(|row| row.hypercalls), hypercalls, "by vCPU");
    }
    for row in &tables.forms {
        assert_eq!(row.bytes, row.accesses * u64::from(row.form.width().bytes()), "{}", row.form);
    }
    for row in &tables.hypercalls {
        assert!(row.count >= row.declined + row.denied + row.errors, "{}", row.call);
    }
}
