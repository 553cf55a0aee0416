//! Guests in a directory, and `qemu-scripts/guest-test` run there.

use std::path::PathBuf;
use std::process::Command;

use pvio_cli::paths;
use tempfile::TempDir;

use crate::Host;

/// A directory with some guests.
pub struct Guests(TempDir);

impl Guests {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Guests {
        Guests(tempfile::tempdir().unwrap())
    }

    /// Where a file in it is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Adds one.
    pub fn add(&self, name: &str, contents: impl AsRef<[u8]>) -> &Guests {
        std::fs::write(self.path(name), contents).unwrap();
        self
    }

    /// `guest-test` in that directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(paths::repository().join("qemu-scripts/guest-test"));
        command.current_dir(&self.0).args(arguments);
        command.env("PVIO_QEMU", Host::NEWEST.program("qemu-system-x86_64"));
        command
    }

    /// What it says on stdout, without the times, and that it passed, or not.
    pub fn test(&self, arguments: &[&str], passed: bool) -> String {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(text(&output.stderr), "");
        let stdout = text(&output.stdout);
        assert_eq!(output.status.code(), Some(if passed { 0 } else { 1 }), "{stdout}");
        without_times(&stdout)
    }
}

/// As text, which it must be.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// `[    0.004211]` and `time=82ms` as `[T]` and `time=T`.
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
