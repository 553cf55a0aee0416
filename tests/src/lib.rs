//! The library that the integration tests share: QEMUs, guests, and checks that every dump must pass.

pub mod boot_images;
mod boots;
pub mod browser;
mod busy;
mod compiler;
mod dump;
mod example_project;
mod failing_files;
mod file_names;
mod guest_run;
pub mod guests;
pub mod linux;
mod monitor;
mod own_plugin;
pub mod programs;
mod recorder;
mod screen;
mod settings;
mod terminal;
mod trace;
pub mod verdict;
mod wait;

pub use boots::{bios, boot_linux, boot_linux_with, port_reader, run_seabios};
pub use busy::start_busy;
pub use compiler::{Compiler, path_str};
pub use dump::{assert_consistent, parse_hex, site_bytes, site_pc, split_symbol};
pub use example_project::ExampleProject;
pub use failing_files::{FailingFiles, Fault};
pub use file_names::file_names;
pub use guest_run::{GuestRun, GuestTest, assert_forms, assert_forms_agree, run_guest};
pub use monitor::{Monitor, snapshot_drive};
pub use own_plugin::build_copy;
pub use pvio_cli::linux::LinuxGuest;
pub use recorder::{came_in_strings, recorder_argument};
pub use screen::Screen;
pub use settings::number_from_env;
pub use terminal::Terminal;
pub use trace::{Event, Trace};
pub use wait::{wait_for, wait_until};

use std::path::PathBuf;
use std::process::Command;

use pvio_cli::machine::{BARE_PC, Ended, Machine};
use pvio_cli::paths;

/// A QEMU that the tests run on.
#[derive(Debug)]
pub struct Host {
    /// The version of its plugin API.
    pub api: i32,
    folder: &'static str,
    /// True if it exports its own functions to plugins.
    pub exports: bool,
}

impl Host {
    /// Debian stable's QEMU: plugin API 4, no exception events.
    pub const STABLE: Host = Host { api: 4, folder: "trixie", exports: true };
    /// The newest QEMU: plugin API 7.
    pub const NEWEST: Host = Host { api: 7, folder: "trixie-backports", exports: true };
    /// QEMU 10.2 as `setup --tests --qemu 10.2` builds it with loadable modules.
    pub const WITH_MODULES: Host = Host { api: 5, folder: "10.2-modules", exports: true };
    /// QEMU 10.2 without loadable modules, which therefore exports no functions.
    pub const PLAIN: Host = Host { api: 5, folder: "10.2-plain", exports: false };

    /// The path of one of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        paths::private_qemu(self.folder, name).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same QEMU, but the plugin behaves as if it exported no functions.
    pub const fn without_exports(&self) -> Host {
        Host { exports: false, api: self.api, folder: self.folder }
    }

    /// An x86-64 machine on this QEMU.
    pub fn machine(&self) -> Machine {
        self.machine_of("qemu-system-x86_64")
    }

    /// A machine of one of its programs.
    pub fn machine_of(&self, program: &str) -> Machine {
        let machine = Machine::new(&self.program(program));
        match self.exports {
            true => machine,
            false => machine.env("PVIO_TEST_WITHOUT_EXPORTS", "1"),
        }
    }

    /// An x86-64 machine whose QEMU exports none of its own functions to the plugin.
    ///
    /// A QEMU that was built without loadable modules is like this. An environment variable makes the
    /// plugin behave so.
    pub fn machine_without_exports(&self) -> Machine {
        self.without_exports().machine()
    }

    /// The command line of a guest in `tests/guests` with the plugin, whose stdio the test connects.
    pub fn bare_guest_command(&self, options: &str, name: &str) -> Command {
        let mut command = Command::new(self.program("qemu-system-x86_64"));
        let plugin = paths::plugin().unwrap_or_else(|error| panic!("{error}"));
        command.arg("-plugin").arg(format!("{},{options}", plugin.display()));
        command.args(BARE_PC).arg("-bios").arg(guest(&format!("{name}.bin")));
        command
    }

    /// Returns true if QEMU reports which instructions faulted.
    pub fn reports_exceptions(&self) -> bool {
        self.api >= 6
    }
}

/// Makes tests of each function `fn name(host: &Host)`, one for each QEMU.
///
/// The test on API 5 needs a QEMU that `setup --tests --qemu 10.2` builds, and runs in a long part.
#[macro_export]
macro_rules! on_both_qemus {
    ($($name:ident)*) => {
        $crate::on_packaged_qemus! { $($name)* }
        mod on_api_5 {
            $(
                #[test]
                #[ignore = "runs in qemu-scripts/test --long qemu-10.2"]
                fn $name() { super::$name(&$crate::Host::WITH_MODULES) }
            )*
        }
    };
}

/// Makes two tests of each function `fn name(host: &Host)`, one for each QEMU that comes as a package.
#[macro_export]
macro_rules! on_packaged_qemus {
    ($($name:ident)*) => {
        mod on_api_4 {
            $(#[test] fn $name() { super::$name(&$crate::Host::STABLE) })*
        }
        mod on_api_7 {
            $(#[test] fn $name() { super::$name(&$crate::Host::NEWEST) })*
        }
    };
}

/// Makes tests of each function `fn name(host: &Host)`, one for each QEMU on which plugins answer calls by registers.
///
/// That on API 5 runs in a long part.
#[macro_export]
macro_rules! on_answering_qemus {
    ($($name:ident)*) => {
        mod on_api_5 {
            $(
                #[test]
                #[ignore = "runs in qemu-scripts/test --long qemu-10.2"]
                fn $name() { super::$name(&$crate::Host::WITH_MODULES) }
            )*
        }
        mod on_api_7 {
            $(#[test] fn $name() { super::$name(&$crate::Host::NEWEST) })*
        }
    };
}

/// Makes tests of each function `fn name(host: &Host)` on QEMU 10.2 without loadable modules. They run in a long part.
///
/// Those after `needs` cannot run there. They say why, and pass.
#[macro_export]
macro_rules! without_modules {
    ($($name:ident)* $(; needs $what:literal: $($left_out:ident)*)*) => {
        mod on_api_5_without_modules {
            $(
                #[test]
                #[ignore = "runs in qemu-scripts/test --long qemu-10.2"]
                fn $name() { super::$name(&$crate::Host::PLAIN) }
            )*
            $($(
                #[test]
                #[ignore = "runs in qemu-scripts/test --long qemu-10.2"]
                fn $left_out() {
                    $crate::leave_out(module_path!(), stringify!($left_out), $what);
                }
            )*)*
        }
    };
}

/// Says why a test cannot run on a QEMU without loadable modules. The output of a test that passes is hidden; this is not.
pub fn leave_out(module: &str, test: &str, needs: &str) {
    use std::io::Write;
    let module = module.split_once("::").map_or(module, |(_, module)| module);
    let line = format!("skipped: {module}::{test}: needs {needs}, which this QEMU does not give\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Makes tests of each function `fn name(host: &Host)` on QEMUs that export nothing.
///
/// On API 4 and 7, a variable makes pvio behave so. The QEMU with API 5 exports none; its test runs in a long part.
#[macro_export]
macro_rules! without_exports {
    ($($name:ident)*) => {
        mod without_exports {
            mod on_api_4 {
                $(#[test] fn $name() { super::super::$name(&$crate::Host::STABLE.without_exports()) })*
            }
            mod on_api_7 {
                $(#[test] fn $name() { super::super::$name(&$crate::Host::NEWEST.without_exports()) })*
            }
            mod on_api_5 {
                $(
                    #[test]
                    #[ignore = "runs in qemu-scripts/test --long qemu-10.2"]
                    fn $name() { super::super::$name(&$crate::Host::PLAIN) }
                )*
            }
        }
    };
}

/// The path of a file that `tests/guests/build` made.
pub fn guest(name: &str) -> PathBuf {
    paths::guest(name).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the line in which pvio says why QEMU does not start.
///
/// # Panics
///
/// If QEMU started, or pvio said something else as well.
pub fn refusal(ended: &Ended) -> String {
    assert!(!ended.status.success(), "QEMU started: {}", ended.stderr);
    assert!(ended.stats.is_none());
    let lines: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("pvio: ")).collect();
    assert_eq!(lines.len(), 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    lines[0].to_owned()
}
