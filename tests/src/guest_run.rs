//! Runs of the guests in `tests/guests`, which check themselves and report what they did.

use std::ffi::OsStr;

use pvio::stats::Snapshot;
use pvio_cli::expected_forms;
use pvio_cli::machine::{Ended, Machine};

use crate::{assert_consistent, guest};

/// A test guest on a machine, not yet started.
#[derive(Debug)]
pub struct GuestTest {
    name: String,
    machine: Machine,
    exit_status: i32,
}

impl GuestTest {
    /// Puts a guest of `tests/guests` on a machine, in place of the BIOS.
    pub fn new(machine: Machine, name: &str) -> GuestTest {
        let machine = machine.bare_guest(&guest(&format!("{name}.bin")));
        GuestTest { name: name.to_owned(), machine, exit_status: expected_forms::PASSED }
    }

    /// Adds arguments for QEMU. They override those of [`Machine::bare_guest`].
    pub fn args<S: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = S>) -> GuestTest {
        GuestTest { machine: self.machine.args(arguments), ..self }
    }

    /// Sets the exit status that the run must have. The default is that of a guest that passed.
    pub fn exit_status(self, exit_status: i32) -> GuestTest {
        GuestTest { exit_status, ..self }
    }

    /// Runs the guest to its end and records its debug console.
    ///
    /// # Panics
    ///
    /// If QEMU ends with another exit status, or the tables of its dump contradict each other.
    pub fn run(self) -> GuestRun {
        let console = tempfile::NamedTempFile::new().unwrap();
        let name = self.name;
        let record = format!("file:{}", console.path().display());
        let ended = self.machine.args(["-debugcon", &record]).run().unwrap();
        let console = std::fs::read(console.path()).unwrap();
        let run = GuestRun { name, ended, console };
        let status = run.ended.status.code();
        let (name, text, stderr) = (&run.name, run.text(), &run.ended.stderr);
        assert_eq!(status, Some(self.exit_status), "{name}: {text}{stderr}");
        if let Some(stats) = &run.ended.stats {
            assert_consistent(stats);
        }
        run
    }
}

/// Runs a guest of `tests/guests`, whose own checks must pass.
pub fn run_guest(machine: Machine, name: &str) -> GuestRun {
    GuestTest::new(machine, name).run()
}

/// A guest that ended with the right exit status.
#[derive(Debug)]
pub struct GuestRun {
    /// Its name.
    pub name: String,
    /// The end of QEMU.
    pub ended: Ended,
    /// The bytes that the guest wrote to its debug console, port 0xe9.
    pub console: Vec<u8>,
}

impl GuestRun {
    /// The statistics of the run.
    ///
    /// # Panics
    ///
    /// If the plugin was not loaded.
    pub fn stats(&self) -> &Snapshot {
        self.ended.stats().unwrap()
    }

    /// The debug console as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.console).into_owned()
    }

    /// The numbers in each line of the debug console that starts with `word`.
    pub fn numbers(&self, word: &str) -> Vec<Vec<u64>> {
        let text = self.text();
        let lines = text.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        let numbers = |line: &str| line.split(' ').map(|n| n.parse().expect("a number")).collect();
        lines.map(numbers).collect()
    }

    /// The number in the first line of the debug console that starts with `word`.
    ///
    /// # Panics
    ///
    /// If there is no such line.
    pub fn number(&self, word: &str) -> u64 {
        let text = self.text();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        let number = lines.next().unwrap_or_else(|| panic!("{}: no {word}: {text}", self.name));
        number.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
    }
}

/// Fails if a dump of the guest `forms` contradicts the guest, or lacks an access that the guest makes.
///
/// This is for a QEMU that exports no functions: the mode of some code may be unknown, and forms may be undecided.
#[track_caller]
pub fn assert_forms_agree(stats: &Snapshot, vcpus: u64, modes: &[pvio::x86::Mode]) {
    let contradictions = expected_forms::contradictions(stats, vcpus, modes);
    assert!(contradictions.is_empty(), "{contradictions:#?}");
}

/// Fails unless a dump has exactly what the guest `forms` does.
#[track_caller]
pub fn assert_forms(stats: &Snapshot, vcpus: u64, modes: &[pvio::x86::Mode]) {
    let differences = expected_forms::differences(stats, vcpus, modes);
    assert!(differences.is_empty(), "{differences:#?}");
}
