//! What the integration tests share: the QEMUs that they run on, and what any dump must fulfil.

mod linux;
mod monitor;
pub mod programs;

pub use linux::LinuxGuest;
pub use monitor::Monitor;

use std::path::PathBuf;

use pvio::stats::Snapshot;
use pvio_scripts::machine::Machine;
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

/// Fails unless the tables of a dump add up to the same totals.
pub fn assert_consistent(stats: &Snapshot) {
    let forms = |column: fn(&pvio::stats::FormRow) -> u64| stats.forms.iter().map(column).sum();
    let executions: u64 = forms(|row| row.executions);
    let accesses: u64 = forms(|row| row.accesses);
    let ports = stats.ports.iter().map(|row| row.device + row.qemu + row.hypercall);
    let sites = stats.sites.iter().map(|row| row.counts).chain([stats.sites_dropped_counts]);
    assert_eq!(ports.sum::<u64>(), accesses, "accesses by port and by form");
    assert_eq!(sites.clone().map(|site| site.accesses).sum::<u64>(), accesses, "by site");
    assert_eq!(sites.map(|site| site.executions).sum::<u64>(), executions, "by site");
    if stats.vcpus_omitted.is_none() {
        let vcpus = stats.vcpus.iter();
        assert_eq!(vcpus.clone().map(|row| row.accesses).sum::<u64>(), accesses, "by vCPU");
        assert_eq!(vcpus.map(|row| row.executions).sum::<u64>(), executions, "by vCPU");
    }
    for row in &stats.forms {
        assert_eq!(row.bytes, row.accesses * u64::from(row.form.width().bytes()), "{}", row.form);
        assert!(row.attempts >= row.executions, "{}", row.form);
    }
}
