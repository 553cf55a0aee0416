//! A directory of guests, in which a test runs `qemu-scripts/guest-test`.

use std::path::PathBuf;
use std::process::{Command, Output};

use pvio_cli::paths;
use tempfile::TempDir;

use crate::Host;

/// A directory of guests.
pub struct Guests {
    directory: TempDir,
    qemu: PathBuf,
}

impl Guests {
    /// An empty directory, for the newest QEMU.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Guests {
        Guests::on(&Host::NEWEST)
    }

    /// An empty directory, for this QEMU.
    pub fn on(host: &Host) -> Guests {
        let qemu = host.program("qemu-system-x86_64");
        Guests { directory: tempfile::tempdir().unwrap(), qemu }
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Adds a guest.
    pub fn add(&self, name: &str, contents: impl AsRef<[u8]>) -> &Guests {
        std::fs::write(self.path(name), contents).unwrap();
        self
    }

    /// The command `guest-test`, to be run in the directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(paths::repository().join("qemu-scripts/guest-test"));
        command.current_dir(&self.directory).args(arguments);
        command.env("PVIO_QEMU", &self.qemu);
        command
    }

    /// Runs `guest-test`, checks its exit status, and returns stdout without times.
    pub fn test(&self, arguments: &[&str], passed: bool) -> String {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(text(&output.stderr), "");
        self.report(&output, passed)
    }

    /// The same, on a QEMU that may warn that it answers no hypercalls by registers.
    pub fn test_without_calls(&self, arguments: &[&str], passed: bool) -> String {
        let output = self.command(arguments).output().unwrap();
        let expected = "guest-test: warning: this QEMU answers no hypercalls by registers: ";
        let stderr = text(&output.stderr);
        assert!(stderr.lines().all(|line| line.starts_with(expected)), "{stderr}");
        self.report(&output, passed)
    }

    fn report(&self, output: &Output, passed: bool) -> String {
        let stdout = text(&output.stdout);
        assert_eq!(output.status.code(), Some(if passed { 0 } else { 1 }), "{stdout}");
        without_times(&stdout)
    }
}

/// Converts UTF-8 to text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Replaces times such as `[    0.004211]` and `time=82ms` by `[T]` and `time=T`.
pub fn without_times(text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        let line = line.rsplit_once(" # time=").map_or(line.to_owned(), |(line, time)| {
            assert!(time.strip_suffix("ms").unwrap().parse::<u64>().is_ok(), "{time}");
            format!("{line} # time=T")
        });
        let line = match line.split_once('[') {
            Some((before, rest)) if rest.as_bytes().get(12) == Some(&b']') => {
                assert!(rest[..12].trim_start().parse::<f64>().is_ok(), "{line}");
                format!("{before}[T{}", &rest[12..])
            }
            _ => line,
        };
        lines += &line;
        lines.push('\n');
    }
    lines
}
